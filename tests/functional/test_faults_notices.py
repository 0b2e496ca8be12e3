"""A night fails, and nobody looks at the status: they are told, by a real mail server and a receiver of webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from connectors.errors import LakeError, UnavailableError
from tests.certificates import make_certificates
from tests.functional.test_cli_commands import CONFIG, NOON, Terminal, periop
from tests.raw_server import RawServer, http

__all__ = ["periop"]  # the fixture

DAY = timedelta(days=1)
KEY = "k3y"


class Mailbox:
    """Keeps what arrives. `answer`: of the mail server to a message."""

    def __init__(self) -> None:
        self.received: list[tuple[list[str], EmailMessage]] = []
        self.users: list[str] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        message = message_from_bytes(bytes(envelope.original_content or b""), policy=policy.default)
        if self.answer.startswith("250"):
            assert isinstance(message, EmailMessage)
            self.received.append((envelope.rcpt_tos, message))
        return self.answer

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, way: str, data: Any) -> AuthResult:
        right = data.password == b"p4ss"
        self.users += [data.login.decode()] if right else []
        return AuthResult(success=right, handled=False)


@contextmanager
def mail_server(mailbox: Mailbox, port: int = 0, **given: Any) -> Iterator[int]:
    """Run a mail server on the loopback for as long as this lasts, and yield its port."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=30, **given)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def mail(port: int, more: str = 'security = "none"') -> str:
    return f"""
[[notify]]
kind = "mail"
to = ["it@hospital.example", "registry@hospital.example"]
sender = "periop@hospital.example"
host = "localhost"
port = {port}
{more}
"""


def test_fault_166_each_change_is_told_once_by_mail(periop: Terminal) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        periop.config.write_text(CONFIG + mail(port))
        assert periop("run") == 0
        assert box.received == []
        periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
        for days in (1, 2):
            periop.now = NOON + days * DAY
            assert periop("run") == 3
        ((recipients, message),) = box.received
        assert recipients == ["it@hospital.example", "registry@hospital.example"]
        assert message["From"] == "periop@hospital.example"
        assert message["Subject"] == "periop alneo: site rome is not up to date (failed)"
        assert message["Auto-Submitted"] == "auto-generated"
        assert "site rome is not up to date (failed): rome gave no answer" in message.get_content()
        periop.pipeline.errors.clear()
        periop.now = NOON + 3 * DAY
        assert periop("run") == 0
        assert box.received[1][1]["Subject"] == "periop alneo: recovered"
        lines = box.received[1][1].get_content().splitlines()
        assert lines[:2] == ["Well again:", "  - site rome is not up to date (failed): rome gave no answer"]
        assert len(box.received) == 2


def test_fault_166_a_run_that_ends_with_an_error_is_told_too(periop: Terminal) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        periop.config.write_text(CONFIG + mail(port))
        for name in ("milan", "rome"):
            periop.pipeline.errors[name] = UnavailableError(f"{name} gave no answer")
        assert periop("run") == 1
    assert box.received[0][1]["Subject"] == "periop alneo: the nightly run failed, and 2 more"


def test_fault_166_neither_syncs_by_hand_nor_a_run_in_progress_make_it_well_again(periop: Terminal) -> None:
    box = Mailbox()
    codes: list[int] = []

    def fail() -> None:
        raise LakeError("the lake is damaged")

    with mail_server(box) as port:
        periop.config.write_text(CONFIG + mail(port))
        periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
        periop.pipeline.at_map = fail
        assert periop("run") == 1
        for _ in range(11):  # more than `periop status` shows
            periop("sync", "milan")
        codes.append(periop("notify"))
        other = Terminal(periop.folder)
        periop.pipeline.at_map = lambda: codes.append(other("notify"))
        assert periop("run") == 3
    assert codes == [0, 0]
    assert [str(message["Subject"]) for _, message in box.received] == [
        "periop alneo: the nightly run failed, and 1 more",
        "periop alneo: recovered in part, 1 left",
    ]


def test_fault_166_no_run_for_days_is_told_by_a_timer(periop: Terminal) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        periop.config.write_text(CONFIG + mail(port))
        periop("run")
        assert periop("notify") == 0
        assert periop.out == "Nothing has changed since the last message.\n"
        periop.now = NOON + 3 * DAY
        assert periop("notify") == 0
        assert periop.out == "mail to it@hospital.example, registry@hospital.example: told\n"
        assert periop("notify") == 0
    ((_, message),) = box.received
    assert "no good run: the last one ended at 2026-05-01T12:00:00+00:00" in message.get_content()


def test_fault_166_a_password_goes_over_tls_only(periop: Terminal, tmp_path: Path) -> None:
    made, box = make_certificates(tmp_path), Mailbox()
    password = tmp_path / "mail.password"
    password.write_text("p4ss\n")
    password.chmod(0o600)
    signed_in = f'username = "periop"\npassword_file = "{password}"\nca_file = "{made.ca}"'
    server = {"tls_context": made.server(), "auth_require_tls": True, "authenticator": box.authenticate}
    with mail_server(box, auth_required=True, require_starttls=True, **server) as port:
        periop.config.write_text(CONFIG + mail(port, signed_in))
        assert periop("notify", "--test") == 0
        periop.config.write_text(CONFIG + mail(port, signed_in.replace(str(made.ca), str(made.other_ca))))
        assert periop("notify", "--test") == 1
        assert f"localhost:{port}: no TLS with the mail server" in periop.err
        password.write_text("other\n")
        periop.config.write_text(CONFIG + mail(port, signed_in))
        assert periop("notify", "--test") == 1
        assert f"localhost:{port}: the mail server answered 535" in periop.err
    assert box.users == ["periop"]
    assert [str(message["Subject"]) for _, message in box.received] == ["periop alneo: a test"]


def test_fault_167_who_cannot_be_reached_is_told_later_and_the_night_is_good(periop: Terminal) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        pass  # and is gone
    periop.config.write_text(CONFIG + mail(port))
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    assert periop("run") == 3
    assert f"localhost:{port}: the mail server cannot be reached" in periop.err
    with mail_server(box, port):
        box.answer = "451 later"
        periop.now = NOON + DAY
        assert periop("run") == 3
        assert f"localhost:{port}: the mail server answered 451 later" in periop.err
        box.answer = "250 OK"
        periop.now = NOON + 2 * DAY
        assert periop("run") == 3
    assert [str(message["Subject"]) for _, message in box.received] == [
        "periop alneo: site rome is not up to date (failed)"
    ]


def test_fault_167_a_webhook_is_signed_and_its_address_is_never_shown(periop: Terminal, tmp_path: Path) -> None:
    answers = [http(status=503), http(b"ok")]
    with RawServer(lambda _: answers.pop(0)) as receiver:
        for name, content in (("chat.url", f"{receiver.origin}/hooks/s3cret"), ("chat.key", KEY)):
            (tmp_path / name).write_text(f"{content}\n")
            (tmp_path / name).chmod(0o600)
        target = '[[notify]]\nkind = "webhook"\nurl_file = "chat.url"\nsecret_file = "chat.key"\n'
        periop.config.write_text(CONFIG + target)
        periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
        assert periop("run") == 3
        assert "answered 503" in periop.err
        assert "s3cret" not in periop.err
        assert periop("notify") == 0
        assert "s3cret" not in periop.out + periop.err
        _, request = receiver.requests
    signature = hmac.new(KEY.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-hub-signature-256"] == f"sha256={signature}"
    content = json.loads(request.body)
    sentence = "site rome is not up to date (failed)"
    assert content["text"].startswith(f"periop alneo: {sentence}\n\nNew:\n  - {sentence}: rome gave no answer")
    assert content["new"] == ["site rome is not up to date (failed): rome gave no answer"]
    assert "s3cret" not in (periop.data / "notified.json").read_text()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 2, "has no [[notify]]; say there who is to be told"),
        ('[[notify]]\nkind = "webhook"\nurl_env = "CHAT_URL"\n', 1, "environment variable CHAT_URL: holds no secret"),
    ],
)
def test_fault_167_what_is_missing_is_named(periop: Terminal, more: str, code: int, said: str) -> None:
    periop.config.write_text(CONFIG + more)
    assert periop("notify", "--test") == code
    assert said in periop.err


def test_fault_167_a_bug_while_telling_ends_no_run(periop: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> ssl.SSLContext:
        raise RuntimeError("Patient/4711")

    monkeypatch.setattr("schedules.run.delivery._trusted", fail)
    periop.config.write_text(CONFIG + mail(25))
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    assert periop("run") == 3
    assert "nobody could be told how the run ended: RuntimeError" in periop.err
    assert "4711" not in periop.err

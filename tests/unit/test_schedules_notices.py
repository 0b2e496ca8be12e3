"""Messages about the nightly runs: once for each change, and never what `periop status` does not say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schedules.config.notify_settings import MailNotice, NoticeTarget, WebhookNotice
from schedules.run.notices import Notice, changes, conditions

NIGHT = datetime(2026, 5, 1, 1, 30, tzinfo=UTC)
FAILED = "the nightly run failed: the disk is full"
PARTIAL = "site rome is not up to date (partial): rome gave no answer"
MAIL = {"kind": "mail", "to": ["it@h.example"], "sender": "periop@h.example", "host": "smtp.h.example"}


def found(**given: Any) -> dict[str, Any]:
    """Return a status as `schedules.run.status.status` has it, of a good night unless said otherwise."""
    run = {"kind": "run", "status": "ok", "finished": "2026-05-01T01:31:00+00:00", "error": None}
    sites = [{"site": name, "status": "ok", "messages": []} for name in ("milan", "rome")]
    good = {"last_night": run, "sites": sites, "stale": False, "last_good_run": "2026-05-01T01:31:00+00:00"}
    return good | given


def night(status: str, finished: str | None = "2026-05-01T01:31:00+00:00", error: str | None = None) -> dict[str, Any]:
    return {"kind": "run", "status": status, "finished": finished, "error": error}


def site(status: str | None, *messages: str) -> dict[str, Any]:
    return {"site": "rome", "status": status, "messages": list(messages)}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (found(), {}),
        (found(last_night=None, sites=[site(None)], stale=True, last_good_run=None), {}),  # installed today
        (found(last_night=night("failed", error="the disk is full")), {"run": FAILED}),
        (
            found(last_night=night("interrupted", finished=None)),
            {"run": "the nightly run was killed: perhaps for want of memory (journalctl -k tells)"},
        ),
        (found(sites=[site("partial", "rome gave no answer")]), {"site rome": PARTIAL}),
        (found(sites=[site("failed")]), {"site rome": "site rome is not up to date (failed): periop status has why"}),
        (
            found(sites=[site("partial", *"abcde")]),
            {"site rome": "site rome is not up to date (partial): a; b; c (and 2 more)"},
        ),
        (
            found(last_night=night("withheld")),
            {
                "release": "nothing could be released: disclosure control suppressed it, `periop publish` says why",
            },
        ),
        (found(stale=True), {"stale": "no good run: the last one ended at 2026-05-01T01:31:00+00:00"}),
    ],
)
def test_what_is_wrong(status: dict[str, Any], expected: dict[str, str]) -> None:
    assert conditions(status) == expected


def test_nothing_is_told_twice() -> None:
    assert changes({}, {}, "alneo", NIGHT) is None
    assert changes({"run": FAILED}, {"run": "the nightly run failed: another sentence"}, "alneo", NIGHT) is None


def test_what_is_new_what_is_well_again_and_what_is_as_before() -> None:
    told = {"run": FAILED, "stale": "no good run"}
    notice = changes(told, {"site rome": PARTIAL, "stale": "no good run"}, "alneo", NIGHT)
    assert notice == Notice("alneo", NIGHT, [PARTIAL], ["no good run"], [FAILED])
    assert notice.subject == "periop alneo: site rome is not up to date (partial)"
    assert notice.text == (
        "New:\n  - site rome is not up to date (partial): rome gave no answer\n\n"
        "Well again:\n  - the nightly run failed: the disk is full\n\n"
        "As before:\n  - no good run\n\n"
        "2026-05-01 01:30 UTC. `periop status` has the details. Each problem is told once."
    )


@pytest.mark.parametrize(
    ("notice", "subject"),
    [
        (Notice("alneo", NIGHT, [FAILED, PARTIAL], [], []), "periop alneo: the nightly run failed, and 1 more"),
        (Notice("alneo", NIGHT, [], [], [FAILED]), "periop alneo: recovered"),
        (Notice("alneo", NIGHT, [], [PARTIAL], [FAILED]), "periop alneo: recovered in part, 1 left"),
    ],
)
def test_the_subject_says_the_most(notice: Notice, subject: str) -> None:
    assert notice.subject == subject


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"to": ["it@h.example\nBcc: x@y.example"]}, "to.0"),
        ({"to": []}, "to"),
        ({"username": "periop"}, "username goes with one of password_env, password_file"),
        ({"password_env": "MAIL"}, "username goes with one of password_env, password_file"),
        (
            {"username": "periop", "password_env": "MAIL", "security": "none"},
            "would show the password to the network",
        ),
        ({"kind": "webhook"}, "to"),
    ],
)
def test_a_target_that_cannot_work_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(NoticeTarget).validate_python(MAIL | changed)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of url, url_env, url_file"),
        ({"url": "https://chat.example.org/x", "url_env": "CHAT"}, "give one of url, url_env, url_file"),
        ({"url": "http://chat.example.org/s3cret"}, "would leave this machine unencrypted"),
        ({"url": "ftp://chat.example.org/x"}, "must be an http or https address"),
        ({"url_env": "CHAT", "secret_env": "A", "secret_file": "b"}, "give one of secret_env, secret_file"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        WebhookNotice.model_validate({"kind": "webhook", **given})
    assert said in str(error.value)


def test_no_message_shows_the_address_of_a_webhook() -> None:
    hook = WebhookNotice(kind="webhook", url="https://chat.example.org/hooks/s3cret")
    assert hook.where == "webhook at chat.example.org"
    assert WebhookNotice(kind="webhook", url_env="CHAT").where == "webhook of CHAT"


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_port_follows_the_security(security: str, port: int) -> None:
    assert MailNotice.model_validate(MAIL | {"security": security}).port_or_default == port
    assert MailNotice.model_validate(MAIL | {"security": security, "port": 2525}).port_or_default == 2525

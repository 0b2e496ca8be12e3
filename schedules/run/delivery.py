"""Hands a message to a mail server or a webhook. Neither is tried twice: what it did not take is told the next time."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from schedules.config.credentials import secret
from schedules.config.notify_settings import MailNotice, WebhookNotice, webhook_url
from schedules.errors import ConfigError, NoticeError
from schedules.run.notices import Notice

SECONDS = 30.0  # for a server to take a message: a run waits for it


def try_secrets(target: MailNotice | WebhookNotice, environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` where a secret or a certificate that `target` needs is missing. Connects to nobody."""
    _trusted(target.ca_file)
    if isinstance(target, MailNotice):
        _password(target, environ)
    else:
        _address(target, environ)
        _signing_key(target, environ)


def deliver(target: MailNotice | WebhookNotice, notice: Notice, environ: Mapping[str, str]) -> None:
    """Hand `notice` to `target`.

    Raises:
        ConfigError: a secret or a certificate is missing.
        NoticeError: it was not taken; says why.
    """
    if isinstance(target, MailNotice):
        _mail(target, notice, environ)
    else:
        _post(target, notice, environ)


def _mail(target: MailNotice, notice: Notice, environ: Mapping[str, str]) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = target.sender, ", ".join(target.to), notice.subject
    message["Date"] = format_datetime(notice.at)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office reply comes back
    message.set_content(notice.text)
    password = _password(target, environ)
    context = _trusted(target.ca_file)
    server = f"{target.host}:{target.port_or_default}"
    try:
        with _connected(target, context) as smtp:
            if target.security == "starttls":
                smtp.starttls(context=context)
            if target.username and password:
                smtp.login(target.username, password)
            refused = smtp.send_message(message)
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise NoticeError(f"{server}: the mail server answered {error.smtp_code} {_line(said)}") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise NoticeError(f"{server}: the mail server takes nothing for {', '.join(error.recipients)}") from None
    except ssl.SSLError as error:
        raise NoticeError(
            f"{server}: no TLS with the mail server ({error.reason}); check security and ca_file"
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NoticeError(f"{server}: the mail server cannot be reached ({_line(str(error))})") from None
    if refused:
        raise NoticeError(f"{server}: the mail server takes nothing for {', '.join(refused)}")


def _connected(target: MailNotice, context: ssl.SSLContext) -> smtplib.SMTP:
    if target.security == "tls":
        return smtplib.SMTP_SSL(target.host, target.port_or_default, timeout=SECONDS, context=context)
    return smtplib.SMTP(target.host, target.port_or_default, timeout=SECONDS)


def _post(target: WebhookNotice, notice: Notice, environ: Mapping[str, str]) -> None:
    import httpx

    url, key = _address(target, environ), _signing_key(target, environ)
    content = {
        "text": f"{notice.subject}\n\n{notice.text}",  # what chat systems show
        "study": notice.study,
        "at": notice.at.isoformat(timespec="seconds"),
        "new": list(notice.new),
        "remaining": list(notice.remaining),
        "recovered": list(notice.recovered),
    }
    body = json.dumps(content, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "periop"}
    if key is not None:
        # The header in which GitHub signs, which receivers of webhooks know how to check.
        headers["X-Hub-Signature-256"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
    try:
        # No proxy of the environment, and no redirect: the address is a secret of the one who made the webhook.
        with httpx.Client(verify=_trusted(target.ca_file), trust_env=False, timeout=SECONDS) as client:
            response = client.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        raise NoticeError(f"{target.where}: cannot be reached ({type(error).__name__})") from None
    if not response.is_success:
        raise NoticeError(f"{target.where}: answered {response.status_code}")


def _password(target: MailNotice, environ: Mapping[str, str]) -> str | None:
    return secret(target.password_env, target.password_file, environ) if target.username else None


def _address(target: WebhookNotice, environ: Mapping[str, str]) -> str:
    if target.url is not None:
        return target.url
    try:
        return webhook_url(secret(target.url_env, target.url_file, environ))
    except ValueError as error:
        raise ConfigError(f"{target.url_env or target.url_file}: {error}") from None


def _signing_key(target: WebhookNotice, environ: Mapping[str, str]) -> bytes | None:
    if target.secret_env is None and target.secret_file is None:
        return None
    return secret(target.secret_env, target.secret_file, environ).encode()


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate in it"
        raise ConfigError(f"{ca_file}: cannot be used as the authority of a server ({reason})") from None


def _line(text: str) -> str:
    return " ".join(text.split())[:200]

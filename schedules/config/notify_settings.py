"""Targets of messages about nightly runs: `[[notify]]` of `periop.toml`, as frozen models."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schedules.config.fields import LOOPBACK, FilePath, Section, exposed

# One address without a name: a line break or a comma would be a second header, or a second recipient.
Address = Annotated[str, StringConstraints(pattern=r"^[^\s@,;<>]+@[^\s@,;<>]+\z")]
PORTS = {"starttls": 587, "tls": 465, "none": 25}  # RFC 6409 and RFC 8314


def webhook_url(url: str) -> str:
    """Check the address of a webhook and return it. Raises ValueError, which does not repeat it: it may be a secret."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(
            "must be an http or https address with a host, and without a user, like https://chat.example.org/hooks/1"
        )
    if exposed(url):
        raise ValueError("is http, and the message would leave this machine unencrypted; give an https address")
    return url


class MailNotice(Section):
    """An e-mail to `to`, handed to the mail server `host`.

    `security`: TLS from the start, by STARTTLS, or none, which takes no password beyond this machine. `ca_file`: the
    authority of the mail server, if it is the hospital's own.
    """

    kind: Literal["mail"]
    to: Annotated[tuple[Address, ...], Field(min_length=1)]
    sender: Address
    host: str
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password_env: str | None = None
    password_file: FilePath | None = None
    ca_file: FilePath | None = None

    @model_validator(mode="after")
    def _password(self) -> MailNotice:
        given = (self.password_env is not None) + (self.password_file is not None)
        if given != (self.username is not None):
            raise ValueError("username goes with one of password_env, password_file")
        if self.username is not None and self.security == "none" and self.host not in LOOPBACK:
            raise ValueError('security = "none" would show the password to the network; use starttls or tls')
        return self

    @property
    def where(self) -> str:
        """Return what messages call it."""
        return f"mail to {', '.join(self.to)}"

    @property
    def port_or_default(self) -> int:
        """Return the port, by default that of the kind of security."""
        return self.port or PORTS[self.security]


class WebhookNotice(Section):
    """An HTTP POST of a JSON object with the key `text`, as chat systems take it.

    The address of a chat's webhook is a secret: `url_env` or `url_file` name it. `secret_env`, `secret_file`: the key
    of an HMAC-SHA-256 of the body in the header X-Hub-Signature-256, for a receiver that checks who sent it.
    """

    kind: Literal["webhook"]
    url: Annotated[str, AfterValidator(webhook_url)] | None = None
    url_env: str | None = None
    url_file: FilePath | None = None
    secret_env: str | None = None
    secret_file: FilePath | None = None
    ca_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_address(self) -> WebhookNotice:
        if sum(each is not None for each in (self.url, self.url_env, self.url_file)) != 1:
            raise ValueError("give one of url, url_env, url_file")
        if self.secret_env is not None and self.secret_file is not None:
            raise ValueError("give one of secret_env, secret_file")
        return self

    @property
    def where(self) -> str:
        """Return what messages call it: never the address, which may be a secret."""
        if self.url is not None:
            return f"webhook at {urlsplit(self.url).hostname}"
        return f"webhook of {self.url_env or self.url_file}"


NoticeTarget = Annotated[MailNotice | WebhookNotice, Field(discriminator="kind")]

"""One HTTP request, before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class HttpRequest:
    """One request. label: stands for it in messages. content: its body. allow_other_origins: as only a file may."""

    method: str
    url: str
    label: str
    headers: Mapping[str, str]
    content: bytes | None = None
    credentials: bool = True
    allow_other_origins: bool = False

    @property
    def asked(self) -> str:
        """Return the URL with the parameters that a form sends in the body."""
        # For what must not be shown or logged it makes no difference where a parameter stands.
        form = self.content if self.headers.get("Content-Type") == FORM else None
        return f"{self.url}?{form.decode()}" if form else self.url


def search_request(url: str, label: str, headers: Mapping[str, str] | None, form: str) -> HttpRequest:
    """Return a search by GET, or by POST where it has a form (percent-encoded parameters)."""
    if not form:
        return HttpRequest("GET", url, label, headers or {})
    return HttpRequest("POST", url, label, {**(headers or {}), "Content-Type": FORM}, form.encode())

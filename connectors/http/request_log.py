"""The log of requests: a line for each at DEBUG, and the headers by a logger of their own.

A URL may hold ids of patients and a header a credential, so a line is made of what cannot be one: the method, names of
types and of parameters, numbers, and the values of a few headers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from connectors.fhir.resource_types import KNOWN

REQUESTS = logging.getLogger("connectors.http.requests")
HEADERS = logging.getLogger("connectors.http.headers")  # only with -vv: see `schedules.cli.logs`

PARAMETER = re.compile(r"_?[A-Za-z][A-Za-z-]{0,30}(:[a-z-]{1,20})?")  # a next link of a server may name anything
SEGMENTS = frozenset({"metadata", "_history", "_search", "$export", "$expand", ".well-known", "smart-configuration"})
SHOWN = frozenset(
    {
        "accept",
        "accept-encoding",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "prefer",
        "retry-after",
        "transfer-encoding",
        "user-agent",
        "vary",
    }
)
VALUE = re.compile(r"[\x20-\x7e]{0,100}")


def log_request(method: str, target: str, result: str, seconds: float, size: int) -> None:
    """Log one request. target: as `describe` gives it. result: its status, or the kind of its failure. size: bytes.

    The time includes that of reading the body.
    """
    REQUESTS.debug("%s %s: %s, %.2f s, %d bytes", method, target, result, seconds, size)


def log_headers(title: str, headers: Mapping[str, str]) -> None:
    """Log the headers of a request or a response; of most only their names, because any of them may hold a secret."""
    if HEADERS.isEnabledFor(logging.DEBUG):
        HEADERS.debug("%s: %s", title, "; ".join(_header(*each) for each in headers.items()))


def describe(url: str, base: str) -> str:
    """Return what a request is for, without any value.

    >>> describe("https://fhir.example/r4/Observation?subject=Patient/4711&_count=200", "https://fhir.example/r4")
    'Observation?subject&_count'
    >>> describe("https://fhir.example/r4/Patient/4711/_history", "https://fhir.example/r4")
    'Patient/…/_history'
    """
    parts = urlsplit(url.removeprefix(base))
    segments = (each for each in parts.path.split("/") if each) if url.startswith(base) else ("file",)
    path = "/".join(each if each in KNOWN or each in SEGMENTS or each == "file" else "…" for each in segments)
    names = [name if PARAMETER.fullmatch(name) else "…" for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return (path or "base") + ("?" + "&".join(dict.fromkeys(names)) if names else "")


def _header(name: str, value: str) -> str:
    return f"{name}: {value}" if name.lower() in SHOWN and VALUE.fullmatch(value) else f"{name}: …"

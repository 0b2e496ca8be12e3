"""The manifest of a Bulk Data export, of the published and of the coming version of the specification.

Bulk Data Access IG 2.0.0 and 3.0.0 ("Response - Complete Status": output, error, deleted, requiresAccessToken), and the
ballot of 4.0.0 (`outcome` in place of `error`, no `request`, files without a `type`, further pages by `link`).
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from connectors.errors import ProtocolError
from connectors.fhir.instants import instant
from connectors.fhir.resource_types import KNOWN
from connectors.http.retry import TruncatedError


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file. resource_type: '' where it holds several types or the server does not say. count: of its resources."""

    url: str
    resource_type: str = ""
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One page of a manifest. transaction_time: FHIR instant, None where there is none. outcomes: error and outcome."""

    transaction_time: str | None
    requires_token: bool
    request: str | None
    output: tuple[ExportFile, ...]
    deleted: tuple[ExportFile, ...]
    outcomes: tuple[ExportFile, ...]
    next: str | None

    @property
    def files(self) -> tuple[ExportFile, ...]:
        """Return all files of the page."""
        return (*self.output, *self.deleted, *self.outcomes)


def read_manifest(body: bytes) -> Manifest:
    """Read one page. TruncatedError where it is no JSON (fetch it again), ProtocolError where it is no manifest."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TruncatedError from error
    if not isinstance(found, dict) or not isinstance(found.get("output", []), list) or "transactionTime" not in found:
        raise ProtocolError("the server ended the export without a manifest: is it Bulk Data Access 2.0 or later?")
    stated = found["transactionTime"]
    request = found.get("request")
    return Manifest(
        stated if isinstance(stated, str) and instant(stated) is not None else None,
        # Where it is missing, the token is sent (to allowed origins only): without it a download would fail.
        found.get("requiresAccessToken") is not False,
        request if isinstance(request, str) else None,
        _files(found.get("output")),
        _files(found.get("deleted")),
        # `error` up to 3.0.0, `outcome` since the ballot of 4.0.0.
        _files(found.get("error")) + _files(found.get("outcome")),
        _next(found.get("link")),
    )


def _files(listed: object) -> tuple[ExportFile, ...]:
    items = listed if isinstance(listed, list) else []
    if any(not isinstance(item, dict) or not isinstance(item.get("url"), str) for item in items):
        raise ProtocolError("the manifest of the export lists a file without a url: report it to the server's admin")
    files = []
    for item in items:
        kind, count = item.get("type"), item.get("count")
        # True and False are integers in Python.
        counted = isinstance(count, int) and not isinstance(count, bool) and count >= 0
        known = isinstance(kind, str) and kind in KNOWN
        files.append(ExportFile(item["url"], kind if known else "", count if counted else None))
    return tuple(files)


def _next(links: object) -> str | None:
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next" and isinstance(link.get("url"), str):
            return str(link["url"])
    return None

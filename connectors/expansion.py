"""Expansion of a value set by a terminology server: `ValueSet/$expand` of FHIR R4, page by page.

Nothing here is about patients: what is sent is a definition, what comes back are codes. So the words with which a
server refuses may be shown as they are; where credentials are sent, without what may be one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.errors import ProtocolError, RefusedError, TooLargeError
from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from connectors.http.server_words import quoted

PAGE = 1_000  # codes
MAX_CODES = 200_000  # SNOMED CT has 360,000 active concepts: more is a value set that is not meant
# How servers say it: the issue type of FHIR R4, and the words of HAPI FHIR, which answers 500
TOO_COSTLY = ("too-costly", "too costly", "too many codes")
ANSWERED = (200, 400, 403, 404, 412, 422, 500)


def expand(client: FhirClient, value_set: Mapping[str, Any], page: int = PAGE) -> dict[str, Any]:
    """Return the whole expansion of a ValueSet by the server of `client`, with the codes of all pages.

    Raises:
        TooLargeError: the server will not expand so large a value set.
        RefusedError: it refuses for another reason, or does not know a code system.
        ProtocolError: what it returns is no expansion, or it gives the same page again and again.
    """
    expansion: dict[str, Any] = {}
    entries: list[Any] = []
    for found in _pages(client, value_set, page):
        expansion = expansion or {**found}
        entries += found.get("contains", [])
    return {
        **{name: value for name, value in expansion.items() if name not in ("offset", "total")},
        "contains": entries,
    }


def _pages(client: FhirClient, value_set: Mapping[str, Any], page: int) -> Iterator[Mapping[str, Any]]:
    try:
        found = _expansion(client, value_set, {})
    except TooLargeError:
        # Some servers give a large value set in pages only. HAPI FHIR is not one of them: of an inline value set it
        # takes `count` for the largest number of codes that the whole expansion may have.
        found = _expansion(client, value_set, {"offset": 0, "count": page})
    seen: set[str] = set()
    offset = 0
    while True:
        entries = found.get("contains", [])
        new = {json.dumps(entry, sort_keys=True) for entry in entries} - seen
        if entries and not new:
            raise ProtocolError("ValueSet/$expand: the server gives the same page again; it does not page expansions")
        yield found
        seen |= new
        offset += len(entries)
        total = found.get("total")
        if offset > MAX_CODES:
            raise TooLargeError(f"ValueSet/$expand: the value set has more than {MAX_CODES} codes; narrow it")
        # Without a total the last page is the one that is not full; a server that does not page gives more at once.
        if not entries or (offset >= total if isinstance(total, int) else len(entries) != page):
            return
        found = _expansion(client, value_set, {"offset": offset, "count": page})


def _expansion(client: FhirClient, value_set: Mapping[str, Any], numbers: Mapping[str, int]) -> Mapping[str, Any]:
    """Return one page of the expansion; `numbers` are the parameters of paging."""
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "valueSet", "resource": value_set},
            *({"name": name, "valueInteger": number} for name, number in numbers.items()),
        ],
    }
    url = f"{client.base}/ValueSet/$expand"
    answer = client.post(url, "ValueSet/$expand", json.dumps(parameters).encode(), statuses=ANSWERED)
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = {}
    if answer.status != 200:
        raise _refusal(client, answer.status, body)
    expansion = body.get("expansion") if isinstance(body, dict) else None
    if not isinstance(expansion, dict):
        raise ProtocolError("ValueSet/$expand: the server returned no ValueSet with an expansion")
    return expansion


def _refusal(client: FhirClient, status: int, body: Any) -> TooLargeError | RefusedError:
    issues = body.get("issue", []) if isinstance(body, dict) else []
    words = " ".join(
        str(words)
        for issue in issues
        for words in (issue.get("code", ""), issue.get("diagnostics", ""), issue.get("details", {}).get("text", ""))
    )
    if any(each in words.lower() for each in TOO_COSTLY):
        return TooLargeError(
            "ValueSet/$expand: the server will not expand so large a value set (too costly): ask for larger pages, "
            "narrow it, or have the administrator raise the limit of expansions"
        )
    if not isinstance(client.authenticator, NoAuth):
        said = quoted(words, client.base) or "; it gave no reason that can be shown"
        return RefusedError(f"ValueSet/$expand: the server refused it with status {status}{said}", status)
    shown = "".join(letter if letter.isprintable() else " " for letter in words)[:300].strip()
    reason = shown or "it gave no reason"
    return RefusedError(f"ValueSet/$expand: the server refused it with status {status}: {reason}", status)

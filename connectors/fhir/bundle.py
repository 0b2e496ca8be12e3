"""Splits a Bundle into its entries. None is serialised again, so decimals such as 1.10 stay as received."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import orjson


class Entry(msgspec.Struct, frozen=True):  # made faster than a frozen dataclass
    """One entry: its resource as received (b'' if it has none), its fullUrl and its search mode ('' if not given).

    In a history (FHIR R4, RESTful API, 3.1.0.11): method and url of the request that made this version, and the
    ETag and lastModified of its answer ('' if not given). In a transaction: method, url and ifNoneExist of the request.
    """

    resource: bytes
    full_url: str = ""
    mode: str = ""
    method: str = ""
    url: str = ""
    etag: str = ""
    modified: str = ""
    if_none_exist: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The entries of a Bundle, its total (None if not given), its links by relation, and when it was made."""

    type: str
    total: int | None
    links: Mapping[str, str]
    entries: tuple[Entry, ...]
    last_updated: str | None = None

    @property
    def matches(self) -> int:
        """Return how many entries the server counts in `total`: matches, not includes, not outcomes."""
        return sum(entry.mode in ("", "match") for entry in self.entries)


class NotABundleError(ValueError):
    """Another resource, or entries that are no entries."""


class CutBundleError(NotABundleError):
    """Not whole: cut off, or no JSON at all."""


# Every member is of any type: a server that sends a wrong one is no reason to lose the entries.
class _Entry(msgspec.Struct):
    fullUrl: object = None  # noqa: N815 (name of FHIR)
    resource: msgspec.Raw = msgspec.Raw(b"")
    search: object = None
    request: object = None
    response: object = None


class _Bundle(msgspec.Struct):
    resourceType: object = None  # noqa: N815 (name of FHIR)
    type: object = None
    total: object = None
    link: object = None
    meta: object = None
    entry: list[_Entry] | None = None


_decode = msgspec.json.Decoder(_Bundle).decode


def looks_like_bundle(raw: bytes) -> bool:
    """Return True if the outermost object says it is a Bundle. Cheap for what cannot be one."""
    if b'"Bundle"' not in raw:
        return False
    try:
        return _decode_head(raw).resourceType == "Bundle"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _outline(raw).get("resourceType") == b'"Bundle"'


class _Head(msgspec.Struct):
    resourceType: object = None  # noqa: N815 (name of FHIR)


_decode_head = msgspec.json.Decoder(_Head).decode


def read_bundle(raw: bytes) -> Bundle:
    """Split a Bundle into its entries.

    Where one entry spoils the JSON (NaN, a lone surrogate, too deep), the text is split by its brackets instead, so
    that only that entry is lost.

    Raises:
        CutBundleError: it is not whole.
        NotABundleError: it is something else.
    """
    try:
        found = _decode(raw)
    # The fast parser refuses the whole Bundle for one bad entry.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _by_brackets(raw, error)
    if found.resourceType != "Bundle":
        raise NotABundleError("the answer is not a Bundle")
    return Bundle(
        found.type if isinstance(found.type, str) else "",
        # True is an integer in Python.
        found.total if isinstance(found.total, int) and not isinstance(found.total, bool) else None,
        _links(found.link),
        tuple(_entry(entry) for entry in found.entry or ()),
        _text(found.meta, "lastUpdated") or None,
    )


def _links(link: object) -> dict[str, str]:
    found = {}
    for item in link if isinstance(link, list) else []:
        if isinstance(item, dict) and isinstance(item.get("relation"), str) and isinstance(item.get("url"), str):
            found[item["relation"]] = item["url"]
    return found


def _entry(entry: _Entry) -> Entry:
    resource = bytes(entry.resource)
    return Entry(
        # Some servers write `"resource": null` for what they do not show.
        b"" if resource == b"null" else resource,
        entry.fullUrl if isinstance(entry.fullUrl, str) else "",
        _text(entry.search, "mode"),
        # What an entry of a history says of its version.
        _text(entry.request, "method"),
        _text(entry.request, "url"),
        _text(entry.response, "etag"),
        _text(entry.response, "lastModified"),
        _text(entry.request, "ifNoneExist"),
    )


def _text(element: object, name: str) -> str:
    """Return the text `name` of an object, '' where it is none."""
    value = element.get(name) if isinstance(element, dict) else None
    return value if isinstance(value, str) else ""


# Splitting by brackets: only strings and brackets are tokens, so any nonsense between them is carried along.

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


def json_values(raw: bytes) -> list[bytes]:
    """Return the items of an array, or the values that follow each other in a text; [raw] where it is neither.

    >>> json_values(b'[{"id": "a"}, {"id": "b"}]')
    [b'{"id": "a"}', b'{"id": "b"}']
    >>> json_values(b'{"id": "a"}')
    [b'{"id": "a"}']
    """
    if raw.lstrip()[:1] == b"[":
        return [*_items(raw)] or ([] if raw.strip()[1:].strip() == b"]" else [raw])
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _one_after_another(raw) or [raw]
    return [raw]


def _one_after_another(raw: bytes) -> list[bytes]:
    """Return the objects of a text that holds more than one; [] if it does not, or one does not close."""
    depth, start, values = 0, 0, []
    for token in _TOKEN.finditer(raw):
        mark = token.group()
        if mark in (b"{", b"["):
            start = start if depth else token.start()
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                values.append(raw[start : token.end()])
        if depth < 0:
            return []
    return values if depth == 0 and len(values) > 1 else []


def _by_brackets(raw: bytes, error: Exception) -> _Bundle:
    outline = _outline(raw)
    if not outline:
        raise CutBundleError("the Bundle is cut off or no JSON") from error
    if not outline.get("entry", b"[").startswith(b"["):
        raise NotABundleError("the entries of the Bundle are no array") from error
    entries = [_outline(item) for item in _items(outline.get("entry", b"[]"))]
    return _Bundle(
        **{key: _value(outline.get(key)) for key in ("resourceType", "type", "total", "link", "meta")},
        entry=[
            _Entry(
                _value(item.get("fullUrl")),
                msgspec.Raw(item.get("resource", b"")),
                *(_value(item.get(key)) for key in ("search", "request", "response")),
            )
            for item in entries
        ],
    )


def _value(raw: bytes | None) -> object:
    try:
        return orjson.loads(raw) if raw is not None else None
    except orjson.JSONDecodeError:
        return None


def _outline(raw: bytes) -> dict[str, bytes]:
    """Return the members of the outermost object, each value as its text; {} if the brackets do not close."""
    members = {}
    for item in _items(raw, b"{"):
        key = _TOKEN.match(item)
        value = item[key.end() :].lstrip() if key else b""
        if key and value.startswith(b":"):
            members[key.group()[1:-1].decode("utf-8", "replace")] = value[1:].strip()
    return members


def _items(raw: bytes, opening: bytes = b"[") -> Iterator[bytes]:
    """Yield the texts between the commas of the outermost array (or object); nothing if it does not close."""
    raw = raw.strip()
    depth, start, items = 0, 1, []
    if not raw.startswith(opening):
        return
    for token in _TOKEN.finditer(raw):
        mark = token.group()
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
        if (mark == b"," and depth == 1) or (mark in (b"]", b"}") and depth == 0):
            items.append(raw[start : token.start()].strip())
            start = token.end()
    if depth == 0:
        yield from (item for item in items if item)

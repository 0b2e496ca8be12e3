"""JSON documents of servers as declared structs, whatever the servers put into them."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import orjson

Document = TypeVar("Document", bound=msgspec.Struct)
_MISFIT = object()


def json_or_none(raw: bytes) -> Any:
    """Return the parsed JSON, None where it is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def convert_leniently(value: object, struct: type[Document]) -> Document:
    """Return parsed JSON as a `struct`, leaving out whatever has another type than declared.

    msgspec itself refuses a document for one wrong member, but a server with one odd search parameter can still be
    read. Members may be plain types, other structs, and tuples of either; each needs a default.

    >>> class Software(msgspec.Struct):
    ...     name: str = ""
    ...     tags: tuple[str, ...] = ()
    >>> convert_leniently({"name": 7, "tags": ["a", None, "b"], "vendor": "x"}, Software)
    Software(name='', tags=('a', 'b'))
    """
    members = value if isinstance(value, dict) else {}
    fitting = {
        name: found
        for name, key, kind in _fields(struct)
        if key in members and (found := _fit(members[key], kind)) is not _MISFIT
    }
    return struct(**fitting)


@cache  # resolving the annotations takes longer than converting, and a CapabilityStatement has thousands of structs
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    return tuple((each.name, each.encode_name, each.type) for each in msgspec.structs.fields(struct))


def _fit(value: object, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        items = value if isinstance(value, list) else []
        return tuple(found for each in items if (found := _fit(each, get_args(kind)[0])) is not _MISFIT)
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        return value if isinstance(value, kind) else _MISFIT
    return convert_leniently(value, kind) if isinstance(value, dict) else _MISFIT

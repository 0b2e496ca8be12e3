"""Reads one resource as received: its identity, patient and digest, or the reason why it is rejected.

The text is kept byte for byte: only the head is looked at, nothing is serialised again.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
import orjson

from connectors.fhir.instants import instant
from connectors.fhir.modifiers import is_modified
from connectors.fhir.references import is_token, patient_of
from connectors.fhir.resource_types import KNOWN

# FHIR R4 datatypes, `id` (https://hl7.org/fhir/R4/datatypes.html#primitive), but for its length: large vendors issue
# longer ones. `connectors.sync` sets them aside unless the site accepts them.
ID = re.compile(r"[A-Za-z0-9\-.]{1,256}")
ID_LENGTH = 64
VERSION_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
BOM = b"\xef\xbb\xbf"
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Reason(StrEnum):
    """The reason for which something received was quarantined."""

    NOT_JSON = "not-json"
    TRUNCATED = "truncated"
    INVALID_UTF8 = "invalid-utf8"
    NOT_A_NUMBER = "nan-or-infinity"
    NUMBER_OUT_OF_RANGE = "number-out-of-range"
    LONE_SURROGATE = "lone-surrogate"
    TOO_DEEP = "too-deep"
    TOO_LARGE = "too-large"
    DUPLICATE_KEY = "duplicate-key"
    NOT_AN_OBJECT = "not-an-object"
    NO_RESOURCE_TYPE = "no-resource-type"
    UNKNOWN_RESOURCE_TYPE = "unknown-resource-type"
    UNREQUESTED_TYPE = "type-not-asked-for"
    NOT_IN_COHORT = "patient-not-asked-for"
    FORGOTTEN = "erased-on-request"
    NO_ID = "no-id"
    INVALID_ID = "invalid-id"
    OPERATION_OUTCOME = "operation-outcome"
    EMPTY_ENTRY = "entry-without-resource"
    MALFORMED_BUNDLE = "malformed-bundle"
    DAMAGED_GZIP = "damaged-gzip"


# What nobody asked for is counted but not kept: data minimisation, and an export holds millions of it.
WITHOUT_CONTENT = frozenset({Reason.UNREQUESTED_TYPE, Reason.NOT_IN_COHORT, Reason.FORGOTTEN})


class Resource(msgspec.Struct, frozen=True, gc=False):  # made faster than a frozen dataclass, and in no cycle
    """A readable resource.

    last_updated: a FHIR instant as received. patient: an id, or a token of an identifier that is looked up when the
    lake is mapped (`connectors.fhir.references`). digest: the SHA-256 (hex) of its canonical JSON, and of the token.
    """

    resource_type: str
    id: str
    version_id: str
    last_updated: str | None
    patient: str | None
    digest: str
    raw: str

    @property
    def modified(self) -> bool:
        """Return True if it has a modifierExtension that is not understood: what it says may be negated."""
        return is_modified(self.raw)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that cannot be stored. where: its place (file and line, search), never a value of the resource."""

    reason: Reason
    where: str
    content: bytes
    resource_type: str = ""
    severe: bool = False


def read_resource(raw: bytes, where: str, wanted: frozenset[str] | None = None) -> Resource | Rejected:
    """Read the head of one resource.

    Args:
        raw: its text.
        where: its place, for messages.
        wanted: the resource types asked for, None for every type of FHIR R4.
    """
    # Windows programs begin a file with a byte order mark.
    raw = raw.removeprefix(BOM).strip(b" \t\r\n")
    try:
        text = raw.decode("utf-8")
        body = orjson.loads(raw)
    except UnicodeDecodeError:
        return Rejected(Reason.INVALID_UTF8, where, raw)
    except orjson.JSONDecodeError:
        return Rejected(why_not_json(text), where, raw)
    reason = why_rejected(body, wanted)
    if reason is None:
        try:
            if not has_duplicate_keys(body, raw):
                return _resource(body, text)
            reason = Reason.DUPLICATE_KEY
        except (TypeError, RecursionError):  # orjson and json stop at their depth limits
            reason = Reason.TOO_DEEP
    return Rejected(reason, where, raw, stated_type(body), is_severe_outcome(body))


def read_entry(raw: bytes, where: str, wanted: frozenset[str] | None, limit: int) -> Resource | Rejected:
    """Read the resource of one entry of a Bundle, as `read_resource` does. limit: its size in bytes."""
    if not raw:
        return Rejected(Reason.EMPTY_ENTRY, where, b"")
    if len(raw) > limit:
        return Rejected(Reason.TOO_LARGE, where, raw)
    return read_resource(raw, where, wanted)


def _resource(body: dict[str, Any], text: str) -> Resource:
    meta = body.get("meta")
    meta = meta if isinstance(meta, dict) else NOTHING
    kind, id_ = body["resourceType"], body["id"]
    # So that a Patient is found with its own resources.
    patient = id_ if kind == "Patient" else patient_of(body)
    # Of the canonical JSON: servers send the same resource with keys in another order, or with other white space.
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    # Versions that did not know these references stored the same text without a patient: it counts as another one.
    token = patient.encode() if patient and is_token(patient) else b""
    digest = hashlib.sha256(canonical + token).hexdigest()
    return Resource(kind, id_, version_id(meta, digest), last_updated(meta), patient, digest, text)


def why_rejected(body: object, wanted: frozenset[str] | None) -> Reason | None:
    """Return the first reason not to store this JSON value, None if its head is in order."""
    if not isinstance(body, dict):
        return Reason.NOT_AN_OBJECT
    kind = body.get("resourceType")
    if not isinstance(kind, str) or not kind:
        return Reason.NO_RESOURCE_TYPE
    if kind not in KNOWN:
        return Reason.UNKNOWN_RESOURCE_TYPE
    if kind == "OperationOutcome":
        return Reason.OPERATION_OUTCOME
    if wanted is not None and kind not in wanted:
        return Reason.UNREQUESTED_TYPE
    id_ = body.get("id")
    if id_ is None:
        return Reason.NO_ID
    return None if isinstance(id_, str) and ID.fullmatch(id_) else Reason.INVALID_ID


def stated_type(body: object) -> str:
    """Return the resource type, or '' where it is none of FHIR R4: what a server invents is not reported."""
    kind = body.get("resourceType") if isinstance(body, dict) else None
    return kind if isinstance(kind, str) and kind in KNOWN else ""


def id_of_type(body: object, resource_type: str) -> str | None:
    """Return the id of a resource of this type; None where the type is another, or the id is missing or invalid."""
    id_ = body.get("id") if isinstance(body, dict) and body.get("resourceType") == resource_type else None
    return id_ if isinstance(id_, str) and ID.fullmatch(id_) else None


def is_severe_outcome(body: object) -> bool:
    """Return True for an OperationOutcome with an issue of severity error or fatal."""
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return False
    issues = body.get("issue")
    return any(
        isinstance(issue, dict) and issue.get("severity") in ("error", "fatal")
        for issue in (issues if isinstance(issues, list) else [])
    )


def is_remark(body: object) -> bool:
    """Return True for an OperationOutcome all of whose issues are information or warnings, and that has one."""
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return False
    issues = body.get("issue")
    issues = issues if isinstance(issues, list) else []
    harmless = ("information", "warning", "success")  # success: R5, which some servers send already
    return bool(issues) and all(isinstance(issue, dict) and issue.get("severity") in harmless for issue in issues)


def version_id(meta: Mapping[str, Any], digest: str) -> str:
    """Return meta.versionId, or 'sha256-' and the first 32 hex digits of the digest where the server gives none."""
    stated = meta.get("versionId")
    return stated if isinstance(stated, str) and VERSION_ID.fullmatch(stated) else f"sha256-{digest[:32]}"


def last_updated(meta: Mapping[str, Any]) -> str | None:
    """Return meta.lastUpdated as received, None where it is not a FHIR instant."""
    stated = meta.get("lastUpdated")
    return stated if isinstance(stated, str) and instant(stated) is not None else None


def has_duplicate_keys(body: object, raw: bytes) -> bool:
    """Return True if an object in `raw` names a key twice: two readers may understand two different things."""
    if orjson.dumps(body) == raw:  # the cheap way out: what equals its own serialisation names no key twice
        return False
    try:
        # Numbers are not converted (`len` takes their text): only the keys matter here.
        json.loads(raw, object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except _DuplicateKeyError:
        return True
    return False


class _DuplicateKeyError(ValueError):
    """A JSON object names the same key twice: two readers may understand two different things."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKeyError
    return members


class _NumberError(ValueError):
    """A number that no strict parser reads. Its argument is the reason."""


def _constant(_: str) -> float:
    raise _NumberError(Reason.NOT_A_NUMBER)


def _number(text: str) -> float:
    if math.isinf(float(text)):
        raise _NumberError(Reason.NUMBER_OUT_OF_RANGE)
    return 0.0


def why_not_json(text: str) -> Reason:
    """Return why a strict parser refused this text; the lenient one of Python tells the cases apart."""
    try:
        json.loads(text, parse_constant=_constant, parse_int=_number, parse_float=_number)
    except _NumberError as error:
        return Reason(error.args[0])
    except RecursionError:
        return Reason.TOO_DEEP
    except ValueError:
        return Reason.TRUNCATED if text.startswith("{") and not text.endswith("}") else Reason.NOT_JSON
    # Python reads what is left: a surrogate without its pair, which is no text, or nesting beyond the limit of orjson.
    return Reason.LONE_SURROGATE if re.search(r"\\u[dD][89a-fA-F]", text) else Reason.TOO_DEEP


def as_truncated(rejected: Rejected) -> Rejected:
    """Return the rejection of a last line without an end of line: if it is no JSON, it was cut."""
    return replace(rejected, reason=Reason.TRUNCATED) if rejected.reason is Reason.NOT_JSON else rejected

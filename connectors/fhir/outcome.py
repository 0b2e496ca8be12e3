"""OperationOutcomes by which a server refuses a request, as far as they say that it does not have a resource type.

Their words may quote a resource or an id: here they are searched, and shown only by `http.server_words`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from connectors.fhir.lenient import convert_leniently, json_or_none

# "Unknown resource type 'AdverseEvent'" (HAPI), "Resource type AdverseEvent is not supported" (others).
UNKNOWN = re.compile(
    r"\b(unknown|unsupported|invalid|unrecogni[sz]ed)\s+(fhir\s+)?resource"
    r"|\bresource\s*type\b.{0,80}\b(unknown|unsupported"
    r"|(not|isn't)\s+(a\s+)?(supported|known|valid|available|found))",
    re.IGNORECASE | re.DOTALL,
)
REFUSALS = (400, 404, 405, 422, 501)  # statuses that an OperationOutcome may explain
INSTANCE = re.compile(r"\b[A-Z][A-Za-z]+/[A-Za-z0-9\-.]+")  # `Patient/x`: then it is about that, and not about a type
PARAMETER = re.compile(r"param", re.IGNORECASE)
# What follows lists the types that the server has: "valid values are: Patient, Condition".
OFFERED = re.compile(
    r"(?<!not )(?<!not a )(?<!n't )"
    r"\b(valid|supported|allowed|permitted|available|accepted|knows how to handle|one of)\b",
    re.IGNORECASE,
)


class _Details(msgspec.Struct):
    text: str = ""


class _Issue(msgspec.Struct):
    diagnostics: str = ""
    details: _Details = msgspec.field(default_factory=_Details)


class _OperationOutcome(msgspec.Struct, rename="camel"):
    resource_type: str = ""
    issue: tuple[_Issue, ...] = ()


def outcome_text(body: bytes) -> str | None:
    """Return the words of an OperationOutcome, a line for each issue; None where the body is none."""
    outcome = convert_leniently(json_or_none(body), _OperationOutcome)
    if outcome.resource_type != "OperationOutcome":
        return None
    return "\n".join(f"{issue.diagnostics} {issue.details.text}".strip() for issue in outcome.issue)


def unknown_types(body: bytes) -> str | None:
    """Return the words of an OperationOutcome that says that a resource type is unknown, None of any other."""
    text = outcome_text(body)
    return text if text and UNKNOWN.search(text) else None


def lacks_type(status: int, outcome: str | None) -> bool:
    """Return True if the server refused a search because it does not have the resource type.

    FHIR R4 (3.1.0.9) has 404 for that; some servers answer 400, 405, 422 or 501 and say it in words. Without an
    OperationOutcome nobody knows: a gateway answers 404 for what is wrong with its own routes.
    """
    if outcome is None or status not in REFUSALS:
        return False
    if UNKNOWN.search(outcome) and not PARAMETER.search(outcome):
        return True
    return status == 404 and not INSTANCE.search(outcome)


def refused_types(outcome: str | None, asked: Collection[str]) -> frozenset[str]:
    """Return those of the types asked for that an OperationOutcome refuses; nothing where it does not say.

    A server names the types that it refuses, or those that it has, or both.

    >>> sorted(refused_types("AdverseEvent is not supported", ["Patient", "AdverseEvent"]))
    ['AdverseEvent']
    >>> sorted(refused_types("_type must be one of: Patient, Condition", ["Patient", "AdverseEvent"]))
    ['AdverseEvent']
    """
    text = outcome or ""
    listed = OFFERED.search(text)
    complaint, offered = (text[: listed.start()], text[listed.start() :]) if listed else (text, "")
    refused, kept = _named(complaint, asked), _named(offered, asked)
    if refused := refused - kept - {"Patient"}:  # `Patient/$export` is the name of the request
        return refused
    # A list of what the server has is one only if it goes on to name what every server has.
    return frozenset(asked) - kept if "Patient" in kept else frozenset()


def refuses_since(outcome: str | None) -> bool:
    """Return whether an OperationOutcome refuses the parameter `_since` of an export.

    >>> refuses_since("_since is not supported"), refuses_since("supported parameters: _type, _since")
    (True, False)
    """
    text = outcome or ""
    listed = OFFERED.search(text)
    return "_since" in (text[: listed.start()] if listed else text)


def _named(text: str, types: Collection[str]) -> frozenset[str]:
    return frozenset(kind for kind in types if re.search(rf"\b{kind}\b", text))

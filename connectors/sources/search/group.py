"""Reads the members of a Group, by which a hospital says who the patients of the study are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.errors import ProtocolError, RefusedError, ServerError
from connectors.fhir import dates
from connectors.fhir.instants import comparable, instant
from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import is_token, patient_of
from connectors.http.client import FhirClient
from connectors.sources.search.entries import id_of
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest, ids

DATE = re.compile(dates.DATE)
NO_GROUP = (
    "the Group of the site cannot be read ({}): check its id, and ask the server's administrator whether the client "
    "may read it{}"
)
NO_GROUP_THERE = "the server answered with something else than a Group: is its id right?"
FEWER = (
    "the Group has {} members by its own account and lists {}, and the server does not find the others by a search for "
    "them (_has): ask its administrator for a Group that lists all"
)
NAMELESS = "{} members of the Group are named without an id of the server, so they cannot be asked for"


@dataclass(frozen=True)
class Members:
    """The patients of a Group. problems: sentences on why some may be missing."""

    patients: tuple[str, ...]
    problems: tuple[str, ...] = ()


def read_members(client: FhirClient, paging: Paging, group: str, limits: SearchLimits) -> Members:
    """Return the patients of a Group, without those who left it: `inactive`, or with a `period` that has ended.

    A Group that describes its members (`actual` false), or lists fewer than it has (`quantity`), is asked for by the
    search for its patients instead, whose pages hold them all (FHIR R4, 3.1.1.4.13, `_has`).

    Raises:
        RefusedError: the Group is not there, or may not be read.
        ServerError: it cannot be read for another reason.
    """
    body = _read(client, group)
    listed = [each for each in body.get("member") or [] if isinstance(each, dict)]
    quantity = body.get("quantity")
    count = quantity if isinstance(quantity, int) else 0
    now = client.clock.now()
    members = [each for each in listed if not has_left(each, now)]
    patients, nameless = _patients(members)
    if len(listed) >= count and body.get("actual") is not False:
        return Members(patients, tuple(_nameless(nameless)))
    try:
        searched = tuple(_search(paging, group, limits))
    except ServerError:
        searched = ()
    # A server that does not know `_has` may ignore it, and answer with everybody.
    # A search cannot tell who has left; as far as the Group lists them it does.
    former = {*_patients([each for each in listed if has_left(each, now)])[0]} - {*patients}
    asked = searched if _plausible(searched, count) else ()
    found = dict.fromkeys((*patients, *(each for each in asked if each not in former)))
    fewer = not asked or len(found) + len(former) < count
    missing = [FEWER.format(count or "other", len(listed))] if fewer else []
    return Members(tuple(found), (*missing, *_nameless(nameless)))


def has_left(member: Mapping[str, Any], now: datetime) -> bool:
    """Return True if a member of a Group is one no more (FHIR R4, Group.member.inactive and .period).

    >>> has_left({"period": {"end": "2025-03"}}, datetime(2025, 3, 31, tzinfo=UTC))
    False
    >>> has_left({"period": {"end": "2025-03"}}, datetime(2025, 4, 1, tzinfo=UTC))
    True
    """
    period = member.get("period")
    end = period.get("end") if isinstance(period, dict) else None
    if member.get("inactive") is True or not isinstance(end, str):
        return member.get("inactive") is True
    if (moment := instant(end)) is not None:
        return moment < comparable(now.isoformat())
    # The end is inclusive: of a day, a month or a year it is the last moment (FHIR R4, datatypes.html#Period).
    return DATE.fullmatch(end) is not None and end < now.astimezone(UTC).date().isoformat()[: len(end)]


def _read(client: FhirClient, group: str) -> dict[str, Any]:
    try:
        found = json_or_none(client.get(f"{client.base}/Group/{group}", "the Group", (200,)).body)
    except RefusedError as error:
        words = str(error).partition("; it says ")[2]
        said = f"; it says {words}" if words else ""
        raise RefusedError(NO_GROUP.format(error.status, said), error.status, error.outcome) from error
    if not isinstance(found, dict) or found.get("resourceType") != "Group":
        raise ProtocolError(NO_GROUP_THERE)
    if not isinstance(found.get("member", []), list):
        raise ProtocolError(NO_GROUP_THERE)
    return found


def _patients(listed: list[dict[str, Any]]) -> tuple[tuple[str, ...], int]:
    """Return the ids of members who are patients, and how many are patients of whom no id is said."""
    named = [patient_of({"subject": each.get("entity")}) for each in listed]
    ids_ = tuple(dict.fromkeys(each for each in named if each is not None and not is_token(each)))
    return ids_, sum(each is not None and is_token(each) for each in named)


def _nameless(count: int) -> Iterator[str]:
    if count:
        yield NAMELESS.format(count)


def _search(paging: Paging, group: str, limits: SearchLimits) -> Iterator[str]:
    request = SearchRequest("Patient", (("_has:Group:member:_id", group),), None, "members of the Group", counted=True)
    for page in paging.pages(ids(request, limits)):
        for entry in page.entries:
            if (id_ := id_of(entry, "Patient")) is not None:
                yield id_


def _plausible(searched: tuple[str, ...], count: int) -> bool:
    return bool(searched) and (not count or len(searched) <= count)

"""Faults of servers that are read by search: what they add, leave out or repeat while they say that all is well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from connectors.report import Counts
from connectors.sources.search.source import SearchLimits
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.run.sources import search_source
from tests.fhir_stub import FhirStub, Reply, Request, Resource, fhir_stub, searchset
from tests.search_nights import NEW, OLD, TYPES, Night, condition, put_patient, resource


@pytest.fixture
def night(tmp_path: Path) -> Any:
    with fhir_stub() as stub:
        yield Night(tmp_path, stub)


def searches(stub: FhirStub, request: Request) -> Reply | None:
    """The stub's own answer to a search or a history, None for every other request."""
    own = request.path.partition("/")[0] in TYPES
    rules, stub.rules = stub.rules, []
    reply = stub.answer(request) if own else None
    stub.rules = rules
    return reply


# --- 35: remarks on every page ---

REMARK = (
    "the server adds remarks to its pages (OperationOutcome of severity information or warning), which are not "
    "kept: if something is missing, ask its administrator what they say"
)


def remark(severity: str) -> Resource:
    words = {"severity": severity, "code": "informational", "diagnostics": "filtered for Jane Canary-Smith"}
    return {"resource": {"resourceType": "OperationOutcome", "issue": [words]}, "search": {"mode": "outcome"}}


@pytest.mark.parametrize("severity", ["information", "warning"])
def test_fault_35_a_remark_on_every_page_is_a_note_and_nothing_is_read_again(night: Night, severity: str) -> None:
    put_patient(night.stub, "a")

    def add_remark(request: Request) -> Reply | None:
        reply = searches(night.stub, request)
        if reply is not None:
            reply.body["entry"].append(remark(severity))
        return reply

    night.stub.rules.append(add_remark)
    first = night.sync()
    assert (first.status, first.reasons, [*night.quarantine.entries("site")]) == ("ok", {}, [])
    assert first.notes == (REMARK,)
    assert night.current() == dict(sorted(night.stub.store.items()))
    second = night.sync()
    assert (second.status, second.counts.quarantined) == ("ok", 0)
    assert all(each.get("_elements") or "_lastUpdated" in each for each in night.asked("Observation"))


def test_fault_35_an_error_among_the_remarks_makes_the_site_partial(night: Night) -> None:
    put_patient(night.stub, "a")

    def add_error(request: Request) -> Reply | None:
        reply = searches(night.stub, request)
        if reply is not None and request.path == "Observation":
            reply.body["entry"].append(remark("error"))
        return reply

    night.stub.rules.append(add_error)
    report = night.sync()
    assert (report.status, report.reasons) == ("partial", {"operation-outcome": 1})


# --- 36: too much is missing ---

LOST = (
    "not believed to be deleted, and kept: {} of the lake did not come, more than max_loss allows (20%). Ask the "
    "server's administrator; if they are really gone, run `periop sync --accept-loss` once"
)


def blank(kinds: tuple[str, ...]) -> Any:
    """A rule: searches by patient find nothing of these types any more."""

    def rule(request: Request) -> Reply | None:
        by_patient = "subject" in request.params
        return (
            Reply(body={"resourceType": "Bundle", "type": "searchset"})
            if by_patient and request.path in kinds
            else None
        )

    return rule


def test_fault_36_searches_that_answer_blank_delete_nothing_until_a_person_believes_it(night: Night) -> None:
    put_patient(night.stub, "a")
    put_patient(night.stub, "b")
    night.sync()
    before = night.current()
    night.stub.rules.append(blank(("Procedure", "Observation")))
    night.stub.history = False
    for _ in range(2):  # every night again
        report = night.sync()
        assert (report.status, report.removed) == ("partial", {})
        assert report.messages == (LOST.format("8 of 8 Observation, 2 of 2 Procedure"),)
        assert night.current() == before
    accepted = night.sync(max_loss=1.0)
    assert (accepted.status, accepted.removed) == ("ok", {"Observation": 8, "Procedure": 2})
    assert {name.partition("/")[0] for name in night.current()} == {"Condition", "Patient"}


def test_fault_36_a_full_sync_that_was_not_believed_is_asked_for_again(night: Night) -> None:
    put_patient(night.stub, "a", observations=6)
    night.limits = SearchLimits()  # no comparison of ids is due
    night.sync()
    before = night.current()
    night.stub.rules.append(blank(("Observation",)))
    assert night.sync(full=True).status == "partial"
    assert night.sync().status == "partial"
    night.stub.rules.clear()
    assert night.sync().status == "ok"
    assert night.current() == before


def test_fault_36_what_is_deleted_one_by_one_is_believed(night: Night) -> None:
    put_patient(night.stub, "a", observations=30)
    night.sync()
    night.stub.history = False
    for number in range(5):
        del night.stub.store[f"Observation/o{number}-a"]
    report = night.sync()
    assert (report.status, report.removed) == ("ok", {"Observation": 5})
    assert "Observation/o0-a" not in night.current()


# --- 37: pages without entries that have no end ---


def endless(stub: FhirStub, suffix: str, total: bool) -> Any:
    """A rule: the last page has a next link, and so has each empty page after it."""

    def rule(request: Request) -> Reply | None:
        if not request.path.endswith(suffix):
            return None
        number = int(request.params.get("_more", "0"))
        if number and request.params.get("_summary") != "count":
            reply: Reply | None = Reply(body=searchset([]))
        else:
            reply = searches(stub, request)
        if reply is not None and request.params.get("_summary") != "count":
            query = urlencode({**request.params, "_more": str(number + 1)})
            reply.body["link"] = [{"relation": "next", "url": f"{stub.base}/{request.path}?{query}"}]
        if reply is not None and not total:
            reply.body.pop("total", None)
        return reply

    return rule


def test_fault_37_a_history_of_empty_pages_without_end_is_given_up(night: Night) -> None:
    put_patient(night.stub, "a")
    night.limits = SearchLimits()
    night.sync()
    night.stub.rules.append(endless(night.stub, "/_history", total=True))
    del night.stub.store["Observation/o0-a"]
    report = night.sync()
    assert report.status == "ok"
    assert len(night.asked("Observation/_history")) == 4  # one with entries, and three without
    told = "Observation: the pages of the history are empty and have no end, so ids were compared in place of it"
    assert told in report.notes
    assert report.removed == {"Observation": 1}
    assert len(night.stub.requests) < 30
    night.sync()
    assert night.asked("Observation/_history") == []


@pytest.mark.parametrize("total", [True, False])
def test_fault_37_a_search_whose_empty_pages_have_no_end(night: Night, total: bool) -> None:
    put_patient(night.stub, "a")
    night.stub.rules.append(endless(night.stub, "Observation", total=total))
    report = night.sync()
    assert (
        len([each for each in night.asked("Observation") if "_summary" not in each and "_lastUpdated" not in each]) == 4
    )
    assert night.current() == dict(sorted(night.stub.store.items()))
    if total:
        told = (
            "Observation: all that the server announced came, and after it pages without entries that have no end: "
            "report it to the server's administrator"
        )
        assert (report.status, report.notes) == ("ok", (told,))
    else:
        told = (
            "Observation of patients 1 to 1: 3 pages in a row hold nothing and have a next link, so it was ended "
            "there: report it to the server's administrator"
        )
        assert (report.status, report.messages) == ("partial", (told,))


# --- 38: lists of patients ---


def first_only(stub: FhirStub, limit: int) -> Any:
    """A rule: of a list of patients only the first ones are looked for; of none where the limit is 0."""

    def rule(request: Request) -> Reply | None:
        for name in ("subject", "_id"):
            values = request.params.get(name, "").split(",")
            if len(values) > max(limit, 1):
                request.params[name] = ",".join(values[:limit]) or "nobody"
        return None

    return rule


SMALLER = "{}: the server does not find all patients of a list, but finds them alone, so it is asked for {} at a time"


@pytest.mark.parametrize(("limit", "size"), [(0, "one"), (1, "one"), (2, 2)])
def test_fault_38_a_list_of_which_not_all_patients_are_looked_for(night: Night, limit: int, size: object) -> None:
    for name in "abcde":
        put_patient(night.stub, name)
    night.stub.rules.append(first_only(night.stub, limit))
    report = night.sync()
    assert (report.status, report.notes) == ("ok", (SMALLER.format("Patient", size),))
    assert night.current() == dict(sorted(night.stub.store.items()))
    night.stub.store["Observation/o1-d"]["meta"] = {"versionId": "2", "lastUpdated": NEW}
    again = night.sync()  # changes and ids are asked for in batches of that size too
    assert (again.status, again.removed, again.by_type["Observation"].stored) == ("ok", {}, 1)
    assert night.current() == dict(sorted(night.stub.store.items()))


def test_fault_38_lists_that_are_understood_cost_two_requests(night: Night) -> None:
    for name in "abc":
        put_patient(night.stub, name)
    assert night.sync().notes == ()
    assert len([each for each in night.asked("Patient") if each.get("_elements") == "id"]) == 1
    assert len([each for each in night.asked("Condition") if each.get("_elements") == "id"]) == 1
    assert all(each["subject"].count(",") == 2 for each in night.asked("Observation") if "subject" in each)


def test_fault_38_a_search_by_patient_that_finds_nobody_hides_no_change(night: Night) -> None:
    put_patient(night.stub, "a")
    put_patient(night.stub, "b")
    night.limits = SearchLimits()
    night.sync()
    night.stub.store["Observation/o1-a"]["meta"] = {"versionId": "2", "lastUpdated": NEW}
    night.stub.rules.append(blank(TYPES))
    told = (
        "Condition: a search by patient does not find what the cohort query has just returned, so changes may be "
        "missing: ask the server's administrator whether its search index is complete"
    )
    report = night.sync()
    assert (report.status, report.messages) == ("partial", (told,))
    night.stub.rules.clear()
    assert night.sync().status == "ok"
    assert night.current() == dict(sorted(night.stub.store.items()))


# --- 39: a server that ignores `code` ---


def test_fault_39_a_cohort_query_of_which_the_code_is_ignored(night: Night) -> None:
    put_patient(night.stub, "a")
    for name in "xyz":
        put_patient(night.stub, name)
        night.stub.put(condition(name, "44054006"))
    night.stub.put(resource("Condition", "c-n", "n", code={"text": "some illness"}))
    night.stub.ignored = {"code"}
    report = night.sync()
    told = (
        "Condition: 3 that the cohort query returned have none of the codes asked for, so the server seems to ignore "
        "the parameter code: they were left out here; ask its administrator to switch it on"
    )
    assert (report.status, report.notes) == ("ok", (told,))
    assert {name[-1] for name in night.current()} == {"a"}
    asked = [value for request in night.stub.requests for value in request.params.values()]
    assert not any(patient in value for value in asked for patient in ("Patient/x", "Patient/n"))


# --- 40 to 42: times, and pages of which a part is lost ---


def test_fault_40_what_a_full_read_sees_is_current_whatever_its_time(night: Night) -> None:
    put_patient(night.stub, "a")
    night.stub.put(resource("Observation", "o0-a", "a", "2", NEW, valueInteger=2))
    night.sync()
    night.stub.put(resource("Observation", "o0-a", "a", "3", OLD, valueInteger=3))  # from a backup
    report = night.sync(full=True)
    assert report.by_type["Observation"] == Counts(received=4, stored=1, identical=3)
    assert night.current() == dict(sorted(night.stub.store.items()))
    (current,) = [row for row in night.by_rule("Observation") if row["id"] == "o0-a"]
    assert json.loads(current["resource"])["valueInteger"] == 3
    assert night.sync(full=True).by_type["Observation"] == Counts(received=4, identical=4)


def test_fault_41_a_change_that_no_search_for_changes_finds(night: Night) -> None:
    put_patient(night.stub, "a")
    night.sync()

    def find_no_change(request: Request) -> Reply | None:
        return Reply(body=searchset([])) if "_lastUpdated" in request.params else None

    night.stub.rules.append(find_no_change)
    night.stub.put(resource("Observation", "o0-a", "a", "2", NEW, valueInteger=2))
    told = (
        "the server has 1 Observation that the searches for changes did not return: the next sync asks for everything"
    )
    assert told in night.sync().notes
    assert night.sync().by_type["Observation"].stored == 1
    assert night.current() == dict(sorted(night.stub.store.items()))


def test_fault_42_a_page_of_which_the_server_gives_only_a_part(night: Night) -> None:
    put_patient(night.stub, "a")
    night.sync()

    def give_a_part(request: Request) -> Reply | None:
        reply = searches(night.stub, request)
        if reply is None or request.path != "Observation" or "subject" not in request.params:
            return None
        reply.status = 206
        reply.body["entry"] = [*reply.body["entry"][1:], remark("error")]
        return reply

    night.stub.rules.append(give_a_part)
    report = night.sync(full=True)
    assert (report.status, report.removed, report.by_type["Observation"].identical) == ("partial", {}, 3)
    told = "Observation of patients 1 to 1: the server gave only a part of 1 pages (206): the next run tries again"
    assert told in report.messages
    assert night.current() == dict(sorted(night.stub.store.items()))


# --- 43: totals ---


@pytest.mark.parametrize("expected", [True, False])
def test_fault_43_a_total_that_counts_what_is_hidden(night: Night, expected: bool) -> None:
    put_patient(night.stub, "a")
    site = SearchSite(name="s", kind="search", url=night.stub.base, expect={"Observation": "fewer"} if expected else {})
    night.limits = search_source(Settings(sites=(site,)), site, {}).limits

    def count_more(request: Request) -> Reply | None:
        reply = searches(night.stub, request) if request.path == "Observation" else None
        if reply is not None and "subject" in request.params:
            reply.body["total"] += 3
        return reply

    night.stub.rules.append(count_more)
    report = night.sync()
    if expected:
        told = (
            "Observation: the server announced more than it gave, which the site expects (expect), so a lost page "
            "would not show"
        )
        assert (report.status, report.notes) == ("ok", (told,))
    else:
        assert report.status == "partial"
    assert night.current() == dict(sorted(night.stub.store.items()))

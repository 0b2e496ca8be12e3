"""Sites whose patients are named by the hospital, because the server allows no search over all patients."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import RefusedError, SourceConfigError
from connectors.http.authenticators import NoAuth
from connectors.http.retry import Clock
from connectors.sources.bulk.source import BulkSource
from connectors.sources.patient_list import PatientList, read_patient_list
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.listed import PatientGroup
from connectors.sources.search.source import SearchLimits
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.fhir_stub import FhirStub, Reply, Request, fhir_stub, outcome
from tests.search_nights import NEW, NIGHT, TYPES, Night, condition, put_patient

MRN = "urn:oid:1.2.3"


def no_search_over_all(request: Request) -> Reply | None:
    """A rule: as Epic and Oracle Health in production, refuse a search that names no patient."""
    asked = {**request.params, **(request.body or {})}
    narrowed = {"_id", "subject", "identifier", "_offset", "_has:Group:member:_id"} & set(asked)
    return None if narrowed or request.path not in TYPES else outcome(400, "required")


def group(*members: str, **elements: Any) -> dict[str, Any]:
    listed = [{"entity": {"reference": f"Patient/{each}"}} for each in members]
    return {"resourceType": "Group", "id": "lung", "type": "person", "actual": True, "member": listed, **elements}


@pytest.fixture
def night(tmp_path: Path) -> Any:
    """Four patients, of whom "d" has another illness, on a server that allows no search over all patients."""
    with fhir_stub() as stub:
        for name in "abcd":
            put_patient(stub, name, observations=2)
        stub.put(condition("d", "44054006"))
        stub.history = False
        stub.parameters.add("identifier")
        stub.rules.append(no_search_over_all)
        made = Night(tmp_path, stub)
        made.limits = SearchLimits()
        yield made


def people(night: Night) -> str:
    return "".join(sorted(name.rpartition("/")[2] for name in night.current() if name.startswith("Patient/")))


def listed(text: str) -> PatientList:
    found = read_patient_list(text)
    assert found is not None
    return found


# --- 73: a Group ---


def test_fault_73_the_members_of_a_group_are_the_patients(night: Night) -> None:
    night.stub.put(group("a", "b"))
    night.stub.store["Group/lung"]["member"].append({"entity": {"reference": "Patient/c"}, "inactive": True})
    night.options = {"named": PatientGroup("lung")}
    report = night.sync()
    assert (report.status, report.notes, people(night)) == ("ok", (), "ab")
    night.stub.store["Observation/o1-a"]["meta"] = {"versionId": "2", "lastUpdated": NEW}
    assert night.sync().by_type["Observation"].stored == 1  # the changes of those who are known, and nothing else


@pytest.mark.parametrize("end", ["2024", "2025-05", "2025-06-09", "2025-06-10T00:59:59Z", "2025-06-10T02:00:00+02:00"])
def test_fault_156_a_membership_that_has_ended_is_none(night: Night, end: str) -> None:
    night.stub.put(group("a", "b"))
    former = {"entity": {"reference": "Patient/c"}, "period": {"end": end}}
    night.stub.store["Group/lung"]["member"].append(former)
    night.options = {"named": PatientGroup("lung"), "clock": Clock(now=lambda: datetime.fromisoformat(NIGHT))}
    report = night.sync()
    assert (report.status, report.notes, people(night)) == ("ok", (), "ab")


@pytest.mark.parametrize("end", ["2026", "2025-06", "2025-06-10", "2025-06-10T01:00:01Z", "soon", None])
def test_fault_156_a_membership_that_goes_on_or_cannot_be_read_counts(night: Night, end: str | None) -> None:
    night.stub.put(group("a", "b"))
    member = {"entity": {"reference": "Patient/c"}, "period": {"start": "2025-01-01", "end": end}, "inactive": False}
    night.stub.store["Group/lung"]["member"].append(member)
    night.options = {"named": PatientGroup("lung"), "clock": Clock(now=lambda: datetime.fromisoformat(NIGHT))}
    assert (night.sync().status, people(night)) == ("ok", "abc")


def test_fault_73_who_joins_is_read_in_full_and_who_leaves_is_told(night: Night) -> None:
    night.stub.put(group("a", "b"))
    night.options = {"named": PatientGroup("lung")}
    night.sync()
    night.stub.put(group("b", "d"))
    report = night.sync()
    left = (
        "1 patients are in the lake and no longer in the Group of the site: their Condition was read once more, and "
        "nothing of them was taken as deleted for that reason"
    )
    assert (report.status, report.removed, people(night)) == ("ok", {}, "abd")
    assert left in report.notes
    assert left not in night.sync().notes
    night.stub.put(group())
    assert "the Group of the site has no patient" in night.sync().notes
    assert people(night) == "abd"


def test_fault_73_a_group_that_lists_a_part_of_its_members_is_searched_for_them(night: Night) -> None:
    night.stub.put(group("a", quantity=4))
    night.stub.store["Group/lung"]["member"].append({"entity": {"reference": "Patient/d"}, "inactive": True})

    def has(request: Request) -> Reply | None:
        if "_has:Group:member:_id" not in request.params:
            return None
        start = int(request.params.get("_offset", "0"))
        name = "abcd"[start]
        onward = f"{night.stub.base}/Patient?_has:Group:member:_id=lung&_offset={start + 1}"
        links = [{"relation": "next", "url": onward}] if start < 3 else []
        entry = [{"resource": {"resourceType": "Patient", "id": name}, "search": {"mode": "match"}}]
        return Reply(body={"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entry, "total": 4})

    night.stub.rules.insert(0, has)
    night.options = {"named": PatientGroup("lung")}
    report = night.sync()
    assert (report.status, people(night)) == ("ok", "abc")


def test_fault_73_members_that_cannot_be_found_make_the_site_partial_and_nobody_leaves(night: Night) -> None:
    night.stub.put(group("a", "b"))
    night.options = {"named": PatientGroup("lung")}
    night.sync()
    night.stub.put(group("a", quantity=2))
    report = night.sync()
    assert (report.status, people(night)) == ("partial", "ab")
    assert "the Group has 2 members by its own account and lists 1" in report.messages[0]
    assert not [each for each in report.notes if "no longer in" in each]
    night.stub.put(group("a"))
    night.stub.store["Group/lung"]["member"].append({"entity": {"identifier": {"system": MRN, "value": "77"}}})
    report = night.sync()
    assert report.messages == (
        "1 members of the Group are named without an id of the server, so they cannot be asked for",
    )


def test_fault_73_a_group_that_is_not_there_is_said(night: Night) -> None:
    night.options = {"named": PatientGroup("lnug")}
    with pytest.raises(RefusedError, match=r"the Group of the site cannot be read \(404\): check its id"):
        night.sync()


@pytest.mark.parametrize(("limit", "size"), [(1, "one"), (2, "2")])
def test_fault_73_lists_that_are_cut_short_are_noticed_without_a_cohort_query(
    night: Night, limit: int, size: str
) -> None:
    night.stub.put(group(*"abcd"))

    def first_only(request: Request) -> Reply | None:
        if (subject := request.params.get("subject")) and subject.count(",") >= limit:
            request.params["subject"] = ",".join(subject.split(",")[:limit])
        return None

    night.stub.rules.append(first_only)
    night.options = {"named": PatientGroup("lung")}
    report = night.sync()
    assert (report.status, people(night)) == ("ok", "abcd")
    assert f"so it is asked for {size} at a time" in report.notes[0]
    assert sum(name.startswith("Observation/") for name in night.current()) == 8


class Scoped(NoAuth):
    """Credentials that keep the types that they are for."""

    missing_scopes = unreadable_types = types = ()

    def narrow(self, types: tuple[str, ...]) -> None:
        object.__setattr__(self, "types", types)


@pytest.mark.parametrize("learns", [False, True])
def test_fault_73_a_scope_is_asked_for_the_group_too(night: Night, learns: bool) -> None:
    night.stub.put(group("a"))
    auth = Scoped()
    night.options = {"named": PatientGroup("lung"), "auth": auth, "learns": learns}
    night.sync()
    assert auth.types == (*TYPES, "Group")
    night.options = {"named": listed("a\n"), "auth": (plain := Scoped()), "learns": learns}
    night.sync()
    assert plain.types == ()


# --- 73: a list in a file ---


def test_fault_73_a_list_of_ids_and_identifiers_is_the_cohort(night: Night) -> None:
    night.stub.store["Patient/b"]["identifier"] = [{"system": MRN, "value": "0042"}]
    night.stub.store["Patient/c"]["identifier"] = [{"system": "urn:other", "value": "0042"}]
    text = f"Name;ID;System;Value\nSmith;a;;\nJones;;{MRN};0042\nNobody;;{MRN};9999\n"
    night.options = {"named": listed(text)}
    report = night.sync()
    assert (report.status, people(night)) == ("ok", "ab")
    told = (
        "no Patient on the server has the identifier in line 4 of the list of patients: correct them, or ask the "
        "administrator under which system the server has them"
    )
    assert report.notes == (told,)


def test_fault_73_rows_that_say_nobody_are_named_by_their_line_and_nobody_leaves(night: Night) -> None:
    night.options = {"named": listed("a\nb\n")}
    night.sync()
    night.options = {"named": listed("id\na\nJane Smith\n\nurn:b\n")}
    report = night.sync()
    assert (report.status, people(night)) == ("partial", "ab")
    assert report.messages == (
        "the list of patients names nobody in lines 3, 5: each needs an id, or a system and a value; correct the file",
    )
    night.options = {"named": listed("a\n")}
    report = night.sync()
    assert (report.status, "no longer in the list of patients" in " ".join(report.notes)) == ("ok", True)


def test_fault_73_ids_that_the_server_does_not_have_are_named_by_their_line(night: Night) -> None:
    night.options = {"named": listed("id,remark\na,\nzz,typed wrongly\n")}
    report = night.sync()
    assert report.status == "ok"
    assert report.notes == (
        "1 patients who were named are not on the server, or the client may not see them: line 3 of the list",
    )
    assert report.notes[0] in night.sync().notes


def test_fault_73_identifiers_are_asked_for_one_by_one_where_a_list_is_refused(night: Night) -> None:
    for number, name in enumerate("abc"):
        night.stub.store[f"Patient/{name}"]["identifier"] = [{"system": MRN, "value": f"7{number}"}]

    def refuse(request: Request) -> Reply | None:
        return outcome(400, "too-many") if "," in request.params.get("identifier", "") else None

    night.stub.rules.insert(0, refuse)
    night.options = {"named": listed("system,value\n" + "".join(f"{MRN},7{number}\n" for number in range(3)))}
    assert (night.sync().status, people(night)) == ("ok", "abc")


def test_fault_73_a_server_that_ignores_identifier_adds_nobody(night: Night) -> None:
    night.stub.ignored = {"identifier"}
    night.stub.store["Patient/a"]["identifier"] = [{"system": MRN, "value": "1"}]
    night.options = {"named": listed(f"system,value\n{MRN},1\n"), "dialect": Dialect(post=True)}
    assert (night.sync().status, people(night)) == ("ok", "a")


@pytest.mark.parametrize(
    ("text", "ids", "identifiers", "unreadable"),
    [
        ("a\nPatient/b\n\n c \n", {"a": 1, "b": 2, "c": 4}, {}, ()),
        ("ID\na\na\n", {"a": 2}, {}, ()),
        ("system\tvalue\nurn:x\t007\n", {}, {("urn:x", "007"): 2}, ()),
        # a spreadsheet has made another number of it, and a value without a system may be anybody's
        ("system,value\nurn:x,1.23457E+11\n,5\nmrn,5\nurn:x,\n", {}, {}, (2, 3, 4, 5)),
        ('id,name\na,"Smith, Jane\nb,Jones\n', {"a": 2, "b": 3}, {}, ()),
        ("id,system,value\nnot an id,urn:x,5\n", {}, {}, (2,)),
        ("id\n", {}, {}, ()),
    ],
)
def test_fault_73_what_a_list_may_look_like(
    text: str, ids: dict[str, int], identifiers: dict[tuple[str, str], int], unreadable: tuple[int, ...]
) -> None:
    assert read_patient_list(text) == PatientList(ids, identifiers, unreadable)


def test_fault_73_columns_of_other_names_are_no_list() -> None:
    assert read_patient_list("name,born\nSmith,1950\n") is None


@given(st.text(max_size=200))
def test_fault_73_every_line_of_a_list_is_read_or_named(text: str) -> None:
    found = read_patient_list(text)
    if found is None:
        return
    filled = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    named = {*found.ids.values(), *found.identifiers.values(), *found.unreadable}
    assert named <= filled
    assert len(filled - named) <= 1 or len(set(text.split())) < len(text.split())  # the header, and repeated rows


# --- 73: the command line, and an export ---

CONFIG = """
[[sites]]
name = "milan"
kind = "search"
url = "{url}"
types = ["Patient", "Condition", "Procedure", "Observation"]
{keys}
"""


def run(folder: Path, stub: FhirStub, keys: str, *arguments: str) -> tuple[int, str, str]:
    (folder / "periop.toml").write_text(CONFIG.format(url=stub.base, keys=keys))
    out, err = io.StringIO(), io.StringIO()
    code = main(["--config", str(folder / "periop.toml"), *arguments], Session(out, err, {}))
    return code, out.getvalue(), err.getvalue()


def test_fault_73_a_site_with_a_group_is_checked_listed_and_synchronised(night: Night, tmp_path: Path) -> None:
    night.stub.put(group("a", "b"))
    keys = 'group = "lung"'
    _, said, _ = run(tmp_path, night.stub, keys, "check", "--json")
    site = json.loads(said)["sites"][0]
    cohort = [(each["level"], each["said"]) for each in site["findings"] if each["check"] == "cohort"]
    assert (site["ok"], cohort) == (True, [("ok", "2 patients in the Group of the site")])
    _, said, _ = run(tmp_path, night.stub, keys, "sync", "--dry-run")
    assert f"{night.stub.base}/Group/lung" in said
    assert "Condition?code" not in said
    assert run(tmp_path, night.stub, keys, "sync")[0] == 0
    code, said, _ = run(tmp_path, night.stub, 'group = "lnug"', "check", "--json")
    assert (code, "to read the Group of its patients" in said) == (1, True)


def test_fault_73_a_site_with_a_list_in_a_file(night: Night, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("id;name\na;Smith\nb;Jones\n")
    keys = 'patients_file = "patients.csv"'
    assert run(tmp_path, night.stub, keys, "check")[0] == 0
    assert run(tmp_path, night.stub, keys, "sync")[0] == 0
    (tmp_path / "patients.csv").write_text("id;name\na;Smith\n?;Jones\n")
    code, out, err = run(tmp_path, night.stub, keys, "sync")
    assert (code, "names nobody in line 3" in out + err, "Jones" in out + err) == (3, True, False)
    (tmp_path / "patients.csv").write_text("name;born\nSmith;1950\n")
    code, out, err = run(tmp_path, night.stub, keys, "sync")
    assert (code, "line 1: has other columns than id, or system and value" in err) == (2, True)
    assert run(tmp_path, night.stub, keys + '\ngroup = "lung"', "sync")[0] == 2


def test_fault_73_an_export_of_patients_by_identifier_finds_their_ids_first(night: Night, tmp_path: Path) -> None:
    night.stub.store["Patient/a"]["identifier"] = [{"system": MRN, "value": "1"}]
    named = listed(f"id,system,value\nb,,\n,{MRN},1\n")
    options: dict[str, Any] = {"level": "patient", "kick_off": "post"}
    source = BulkSource(night.stub.base, TYPES, "site", tmp_path / "jobs", patients=named, **options)
    fingerprint = source.fingerprint
    with pytest.raises(RefusedError):  # the stub exports nothing
        list(source.pull(None))
    (kick_off,) = [each for each in night.stub.requests if each.path == "Patient/$export"][:1]
    asked = [each["valueReference"]["reference"] for each in kick_off.body["parameter"] if each["name"] == "patient"]
    assert asked == ["Patient/a", "Patient/b"]
    assert source.fingerprint == fingerprint
    nobody = BulkSource(
        night.stub.base, TYPES, "site", tmp_path / "jobs", patients=listed(f"system,value\n{MRN},2\n"), **options
    )
    with pytest.raises(SourceConfigError, match="so nobody was asked for"):
        list(nobody.pull(None))


# --- 39: a cohort query that finds nobody with one of the codes ---


def test_fault_39_where_no_condition_has_a_code_that_was_asked_for_the_site_is_partial(night: Night) -> None:
    night.stub.rules.clear()
    night.sync()
    before = people(night)
    for name in "abc":
        night.stub.put(condition(name, "44054006"))
    night.stub.ignored = {"code"}
    report = night.sync()
    told = (
        "Condition: none of the 4 that the cohort query returned has one of the codes asked for, so the server ignores "
        "the parameter code or has the codes of its conditions in other systems: nobody was asked for; ask its "
        "administrator how it codes lung cancer"
    )
    assert (report.status, report.messages, people(night)) == ("partial", (told,), before)
    assert not [each for each in report.notes if "no longer in" in each]


def test_fault_39_a_server_with_other_illnesses_only_and_no_answer_is_an_empty_cohort(night: Night) -> None:
    night.stub.rules.clear()
    for name in "abc":
        night.stub.put(condition(name, "44054006"))
    assert (night.sync().status, people(night)) == ("ok", "")

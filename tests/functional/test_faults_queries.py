"""Servers that want to be asked in their own way: with a parameter more, by another name, by POST, in short lists."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.http.authenticators import BearerAuth
from connectors.sources.search.dialect import BY_PATIENT, Dialect, by_patient
from connectors.sources.search.source import SearchLimits
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.run.sources import dialect_of, search_source
from tests.fhir_stub import Reply, Request, fhir_stub, outcome
from tests.search_nights import NEW, TYPES, Night, condition, put_patient, resource

CATEGORIES = Dialect({"Observation": ((("category", "laboratory"),), (("category", "vital-signs"),))})


@pytest.fixture
def night(tmp_path: Path) -> Any:
    with fhir_stub() as stub:
        yield Night(tmp_path, stub)


def observe(night: Night, patient: str, name: str, *categories: str, **elements: Any) -> None:
    category = [{"coding": [{"code": each}]} for each in categories]
    night.stub.put(resource("Observation", name, patient, category=category, **elements))


def wants_category(request: Request) -> Reply | None:
    """A rule: as Epic, refuse a search for Observations that names no category."""
    if request.path != "Observation" or "category" in request.params:
        return None
    issue = {
        "severity": "fatal",
        "code": "required",
        "diagnostics": "Must have either code or category of Canary-Smith",
    }
    return Reply(400, {"resourceType": "OperationOutcome", "issue": [issue]})


def asked_values(night: Night, kind: str, name: str) -> list[str]:
    return [each[name] for each in night.asked(kind) if name in each]


# --- 60: a parameter beside the patient ---


@pytest.fixture
def picky(night: Night) -> Night:
    """A server that wants a category, with three patients, each with Observations of one, of the other, and of both."""
    for name in "abc":
        put_patient(night.stub, name, observations=0)
        observe(night, name, f"lab-{name}", "laboratory")
        observe(night, name, f"vital-{name}", "vital-signs")
        observe(night, name, f"both-{name}", "vital-signs", "laboratory")
    night.stub.parameters.add("category")
    night.stub.rules.append(wants_category)
    night.options = {"dialect": CATEGORIES}
    return night


def test_fault_60_without_the_parameter_the_type_is_missing_and_the_server_says_why(picky: Night) -> None:
    picky.options = {}
    report = picky.sync()
    assert report.status == "partial"
    assert 'it says "Must have either code or category of …"' in report.messages[0]


def test_fault_60_a_list_of_values_is_a_list_of_searches_whose_results_are_united(picky: Night) -> None:
    report = picky.sync()
    assert (report.status, report.counts.identical) == ("ok", 3)  # those of both categories came twice
    assert picky.current() == dict(sorted(picky.stub.store.items()))
    assert set(asked_values(picky, "Observation", "category")) == {"laboratory", "vital-signs"}
    assert not asked_values(picky, "Condition", "category")


def test_fault_60_changes_and_ids_are_asked_for_by_the_same_searches(picky: Night) -> None:
    picky.stub.history = False
    picky.sync()
    observe(picky, "a", "vital-a", "vital-signs", version="2", time=NEW, valueInteger=5)
    del picky.stub.store["Observation/lab-b"]
    report = picky.sync()
    assert (report.status, report.by_type["Observation"].stored, report.removed) == ("ok", 1, {"Observation": 1})
    assert picky.current() == dict(sorted(picky.stub.store.items()))
    searches = [
        (each["category"], each.get("_elements"), "_lastUpdated" in each) for each in picky.asked("Observation")
    ]
    for kind in (("id,meta", False), (None, True)):  # the comparison, and the search for changes
        assert sorted(category for category, *rest in searches if tuple(rest) == kind) == ["laboratory", "vital-signs"]


def test_fault_60_where_one_of_the_searches_loses_a_page_nothing_is_taken_as_deleted(picky: Night) -> None:
    picky.sync()
    before = picky.current()
    del picky.stub.store["Observation/vital-a"]

    def lose(request: Request) -> Reply | None:
        if request.params.get("category") != "laboratory" or "_summary" in request.params:
            return None
        return Reply(body={"resourceType": "Bundle", "type": "searchset", "total": 6, "entry": []})

    picky.stub.rules.insert(0, lose)
    report = picky.sync(full=True)
    assert (report.status, report.removed, picky.current()) == ("partial", {}, before)
    picky.stub.rules.pop(0)
    report = picky.sync(full=True)
    assert (report.status, report.removed) == ("ok", {"Observation": 1})


def test_fault_60_other_parameters_ask_for_everything_again(picky: Night) -> None:
    source, plain = picky.source(), Night(Path("unused"), picky.stub).source()
    fewer = Dialect({"Observation": ((("category", "laboratory"),),)})
    picky.options = {"dialect": fewer}
    assert len({source.fingerprint, plain.fingerprint, picky.source().fingerprint}) == 3


def test_fault_60_the_cohort_query_has_the_parameters_of_its_type_too(night: Night) -> None:
    put_patient(night.stub, "a")
    night.stub.put(condition("a") | {"category": [{"coding": [{"code": "encounter-diagnosis"}]}]})
    night.stub.parameters.add("category")
    sets = ((("category", "problem-list-item"),), (("category", "encounter-diagnosis"),))
    night.options = {"dialect": Dialect({"Condition": sets})}
    assert night.sync().status == "ok"
    assert night.current() == dict(sorted(night.stub.store.items()))
    assert all("category" in each for each in night.asked("Condition"))


CONFIG = """
[[sites]]
name = "milan"
kind = "search"
url = "{url}"
{keys}
[limits]
reconcile_days = 7
"""


def run(folder: Path, *arguments: str, keys: str = "", url: str = "") -> tuple[int, str]:
    """Run `periop`; return its exit code and all that it printed."""
    (folder / "periop.toml").write_text(CONFIG.format(url=url, keys=keys))
    out, err = io.StringIO(), io.StringIO()
    code = main(["--config", str(folder / "periop.toml"), *arguments], Session(out, err, {}))
    assert "Canary-Smith" not in out.getvalue() + err.getvalue()
    return code, out.getvalue() if "--json" in arguments else out.getvalue() + err.getvalue()


KEYS = 'types = ["Patient", "Condition", "Procedure", "Observation"]\n'
TWO_CATEGORIES = KEYS + 'parameters = { Observation = { category = ["laboratory", "vital-signs"] } }'


def test_fault_60_the_check_says_what_to_set_and_tries_what_is_set(picky: Night, tmp_path: Path) -> None:
    code, said = run(tmp_path, "check", "--json", keys=KEYS, url=picky.stub.base)
    (found,) = [each for each in json.loads(said)["sites"][0]["findings"] if each["level"] == "missing"]
    assert (code, found["resource_type"]) == (3, "Observation")
    assert 'parameters = { Observation = { category = ["…"] } }' in found["said"]
    requests = json.loads(said)["sites"][0]["requests"]
    assert not [each for each in requests if "Observation" in each]  # its administrator has nothing to do for it
    code, said = run(tmp_path, "check", "--json", keys=TWO_CATEGORIES, url=picky.stub.base)
    assert (code, json.loads(said)["sites"][0]["ok"]) == (0, True)


def test_fault_60_a_dry_run_shows_each_of_the_searches(picky: Night, tmp_path: Path) -> None:
    _, said = run(tmp_path, "sync", "--dry-run", "--json", keys=TWO_CATEGORIES, url=picky.stub.base)
    planned = [each for each in json.loads(said)["sites"][0]["requests"] if "/Observation?subject" in each["url"]]
    assert [each["expected"] for each in planned] == [6, 6]
    assert ["category=laboratory" in each["url"] for each in planned] == [True, False]
    assert all("subject=Patient/…(3 patients)" in each["url"] for each in planned)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"Observation": {"subject": "x"}}, "sets subject, which periop sets itself"),
        ({"Observation": {"_count": "5"}}, "'_count' is no search parameter of a type"),
        ({"Observation": {"category": []}}, "at least 1"),
        ({"Encounter": {"class": "x"}}, "nothing is done with Encounter"),
        ({"Observation": {"category": ["x"] * 5, "code": ["y"] * 5}}, "more than 20 searches"),
    ],
)
def test_fault_60_parameters_that_a_site_cannot_set(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SearchSite(name="x", kind="search", url="http://127.0.0.1/fhir", parameters=parameters)


# --- 61: another name of the patient, and searches by POST ---


def only_patient(night: Night) -> None:
    night.stub.parameters = {"_id", "patient", "code", "_tag", "_lastUpdated"}
    night.stub.listed = dict.fromkeys(TYPES, ("_id", "patient", "code"))


def test_fault_61_a_server_that_knows_only_patient_says_so_in_its_statement(night: Night, tmp_path: Path) -> None:
    for name in "ab":
        put_patient(night.stub, name)
    only_patient(night)
    night.options = {"learns": True}
    assert night.sync().status == "ok"
    assert night.current() == dict(sorted(night.stub.store.items()))
    assert asked_values(night, "Observation", "patient") == ["a,b"]
    code, said = run(tmp_path, "check", "--json", keys=KEYS, url=night.stub.base)
    assert (code, "patient is honoured" in said) == (0, True)
    _, said = run(tmp_path, "sync", "--dry-run", keys=KEYS, url=night.stub.base)
    assert "Observation?patient=…(2 patients)" in said


@pytest.mark.parametrize("status", [401, 403])
def test_fault_158_a_statement_that_wants_credentials_is_read_with_them(night: Night, status: int) -> None:
    put_patient(night.stub, "a")
    only_patient(night)
    read: list[bool] = []

    def closed(request: Request) -> Reply | None:
        if request.path == "metadata":
            read.append("authorization" in request.headers)
        return None if "authorization" in request.headers else outcome(status, "login")

    night.stub.rules.append(closed)
    night.options = {"learns": True, "auth": BearerAuth("s3cret")}
    assert night.sync().status == "ok"
    assert night.current() == dict(sorted(night.stub.store.items()))
    assert read == [False, True]
    night.stub.rules.clear()  # where the server gives it to everybody, no credentials are sent for it
    sent = [each for each in (night.sync(), night.stub.requests)[1] if each.path == "metadata"]
    assert ["authorization" in each.headers for each in sent] == [False]


def test_fault_61_where_both_are_listed_subject_is_asked(night: Night) -> None:
    put_patient(night.stub, "a")
    night.stub.listed = dict.fromkeys(TYPES, ("patient", "subject"))
    night.options = {"learns": True}
    assert night.sync().status == "ok"
    assert not asked_values(night, "Observation", "patient")


def test_fault_61_patient_can_be_set_for_all_types_that_have_it() -> None:
    keys: dict[str, Any] = {"name": "x", "kind": "search", "url": "http://127.0.0.1/fhir"}
    dialect = dialect_of(SearchSite(**keys, patient_parameter="patient"))
    # AdverseEvent has no such parameter in R4.
    assert [dialect.patient_parameter(each) for each in ("Observation", "AdverseEvent")] == ["patient", "subject"]
    assert dialect_of(SearchSite(**keys)).by_patient == BY_PATIENT
    assert "Patient" not in by_patient(TYPES)
    settings = Settings(data_dir=Path("unused"), sites=(SearchSite(**keys, patient_parameter="subject"),))
    site = settings.sites[0]
    assert site.kind == "search"
    assert not search_source(settings, site, {}).learns


def test_fault_61_by_post_no_id_is_in_a_url_and_the_lake_is_the_same(
    night: Night, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        put_patient(night.stub, name)
    night.options = {"dialect": Dialect(post=True)}
    night.limits = SearchLimits(page_size=5)  # next links are followed by GET
    with caplog.at_level(logging.DEBUG, "connectors.http.requests"):
        assert night.sync().status == "ok"
    assert "POST Observation/_search?subject&_count&_total: 200" in caplog.text
    assert night.current() == dict(sorted(night.stub.store.items()))
    searches = [each for each in night.stub.requests if not each.path.endswith("_history")]
    assert {each.method for each in searches if "_offset" not in each.params} == {"POST"}
    night.stub.store["Observation/o1-b"]["meta"] = {"versionId": "2", "lastUpdated": NEW}
    assert night.sync().by_type["Observation"].stored == 1
    keys = KEYS + 'search_method = "post"'
    assert run(tmp_path, "check", keys=keys, url=night.stub.base)[0] == 0
    _, said = run(tmp_path, "sync", "--dry-run", keys=keys, url=night.stub.base)
    assert "POST" in said
    assert "Observation/_search?subject=Patient/…(3 patients)" in said


def test_fault_61_a_server_that_takes_no_post_is_said_by_the_check(night: Night, tmp_path: Path) -> None:
    put_patient(night.stub, "a")
    night.stub.rules.append(lambda request: outcome(405, "not-supported") if request.method == "POST" else None)
    code, said = run(tmp_path, "check", keys=KEYS + 'search_method = "post"', url=night.stub.base)
    assert code == 1
    assert 'a search by POST is refused (405): leave out search_method = "post"' in " ".join(said.split())


def test_fault_61_a_refusal_of_a_post_does_not_repeat_what_was_sent(night: Night) -> None:
    put_patient(night.stub, "smith")

    def quote(request: Request) -> Reply | None:
        if "Observation" not in request.path or request.method != "POST":
            return None
        words = {"severity": "error", "code": "invalid", "diagnostics": "no search for smith here"}
        return Reply(422, {"resourceType": "OperationOutcome", "issue": [words]})

    night.stub.rules.append(quote)
    night.options = {"dialect": Dialect(post=True)}
    (message,) = night.sync().messages
    assert "no search for … here" in message


# --- 62: lists that are too long ---


def at_most(number: int, status: int, kinds: tuple[str, ...] = TYPES) -> Any:
    """A rule: refuse a search for more patients than that."""

    def rule(request: Request) -> Reply | None:
        listed = request.params.get("subject") or request.params.get("_id") or ""
        too_many = request.path in kinds and listed.count(",") >= number
        return Reply(status, "too long", "text/plain") if too_many else None

    return rule


def longest(night: Night, kind: str) -> int:
    return max(each.count(",") + 1 for each in asked_values(night, kind, "_id" if kind == "Patient" else "subject"))


@pytest.mark.parametrize(("number", "status"), [(4, 414), (1, 400), (2, 404)])
def test_fault_62_a_list_that_is_refused_is_asked_for_in_parts_and_the_next_night_knows(
    night: Night, number: int, status: int
) -> None:
    for name in "abcdefg":
        put_patient(night.stub, name, observations=1)
    night.stub.rules.append(at_most(number, status, ("Observation", "Procedure")))  # the first batch hides nothing
    night.limits = SearchLimits()
    report = night.sync()
    assert report.status == "ok"
    assert f"so it was asked for {number} at a time" in report.notes[0]
    assert night.current() == dict(sorted(night.stub.store.items()))
    again = night.sync()
    assert (again.status, longest(night, "Observation")) == ("ok", number)
    assert night.current() == dict(sorted(night.stub.store.items()))
    night.sync(full=True)  # which tries again what the settings say
    assert longest(night, "Observation") == 7


def test_fault_62_a_type_that_is_refused_for_another_reason_is_not_asked_for_without_end(night: Night) -> None:
    for number in range(16):
        put_patient(night.stub, f"p{number:02}", observations=1)
    night.limits = SearchLimits(batch=4, streams=1)

    def refuse(request: Request) -> Reply | None:
        return outcome(400, "invalid") if request.path == "Observation" else None

    night.stub.rules.append(refuse)
    report = night.sync()
    assert report.status == "partial"
    # 4, 2 and 1 patient, each with `_total` and without it; the other three lists once each
    assert len(asked_values(night, "Observation", "subject")) == 2 * (3 + 3)
    assert longest(night, "Procedure") == 4
    night.stub.rules.clear()
    assert night.sync().status == "ok"
    assert longest(night, "Observation") == 4


def test_fault_62_what_one_patient_is_refused_for_stops_the_lists_of_no_other(night: Night) -> None:
    for name in "abcd":
        put_patient(night.stub, name, observations=1)

    def refuse(request: Request) -> Reply | None:
        return (
            outcome(400, "x")
            if request.path == "Procedure" and "Patient/d" in request.params.get("subject", "")
            else None
        )

    night.stub.rules.append(refuse)
    night.limits = SearchLimits()
    report = night.sync()
    assert (report.status, "Procedure/s-d" in night.current()) == ("partial", False)
    assert {"Procedure/s-a", "Procedure/s-b", "Procedure/s-c"} <= set(night.current())


def test_fault_62_the_longest_url_is_a_limit_of_the_site(night: Night) -> None:
    for number in range(40):
        put_patient(night.stub, f"patient-with-a-long-id-{number:04}", observations=1)
    keys: dict[str, Any] = {"name": "x", "kind": "search", "url": night.stub.base, "limits": {"max_url": 800}}
    settings = Settings(data_dir=Path("unused"), sites=(SearchSite(**keys),))
    site = settings.sites[0]
    assert site.kind == "search"
    night.limits = search_source(settings, site, {}).limits
    assert night.limits.url == 800
    assert night.sync().status == "ok"
    assert 1 < longest(night, "Observation") < 20
    wide = CATEGORIES.within(night.limits)
    assert wide.url == 800 - len("category=vital-signs")

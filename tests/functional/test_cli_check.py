"""`periop check`: servers that lie, and the sentence each gets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.fhir_stub import TYPES, FhirStub, Reply, Request, fhir_stub, outcome, searchset

LUNG = {"coding": [{"system": "http://snomed.info/sct", "code": "254637007"}]}
SITE = '[[sites]]\nname = "milan"\nkind = "search"\nurl = "{url}"\n'
SECRETS = ("Canary-Smith", "secret-patient", "s3cret", "254637007")


@pytest.fixture
def server() -> Iterator[FhirStub]:
    """A good server: two patients with lung cancer, and of every other type two resources of the first."""
    with fhir_stub() as stub:
        for number in (1, 2):
            patient = f"secret-patient-{number}"
            stub.put({"resourceType": "Patient", "id": patient, "name": [{"family": "Canary-Smith"}]})
            subject = {"reference": f"Patient/{patient}"}
            stub.put({"resourceType": "Condition", "id": f"c{number}", "code": LUNG, "subject": subject})
        for kind in TYPES[2:]:
            for number in (1, 2):
                subject = {"reference": "Patient/secret-patient-1"}
                about = {} if kind == "Medication" else {"subject": subject}
                stub.put({"resourceType": kind, "id": f"{kind}-{number}", **about})
        yield stub


class Terminal:
    """Runs `periop` in a folder and keeps what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = lambda: datetime.now(UTC)
        self.out = self.err = ""

    def __call__(self, *arguments: str, environ: dict[str, str] | None = None) -> int:
        out, err = io.StringIO(), io.StringIO()
        session = Session(out, err, environ or {}, self.now)
        code = main(["--config", str(self.folder / "periop.toml"), *arguments], session)
        self.out, self.err = out.getvalue(), err.getvalue()
        assert not [each for each in SECRETS if each in self.out + self.err]
        return code

    def configure(self, text: str) -> None:
        (self.folder / "periop.toml").write_text(text)


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def checked(periop: Terminal, *arguments: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the first site of the JSON document."""
    code = periop("check", "--json", *arguments, **options)
    found = json.loads(periop.out)
    assert found["exit_code"] == code
    return code, found["sites"][0]


def real(request: Request) -> bool:
    """Whether it is a search for something that may be there, and no canary."""
    asked = str(request.params)
    return request.path in TYPES and not any(mark in asked for mark in ("periop", "2100-01-01", "_offset"))


def levels(site: dict[str, Any]) -> dict[tuple[str, str | None], str]:
    return {(each["check"], each["resource_type"]): each["level"] for each in site["findings"]}


def said(site: dict[str, Any], check: str, kind: str | None = None) -> str:
    (text,) = [e["said"] for e in site["findings"] if (e["check"], e["resource_type"]) == (check, kind)]
    return str(text)


def test_a_good_server_lacks_nothing(server: FhirStub, periop: Terminal) -> None:
    code, site = checked(periop, "--url", server.base)
    assert (code, site["ok"], site["requests"]) == (0, True, [])
    assert set(levels(site).values()) == {"ok"}
    assert {("read", kind) for kind in TYPES} <= set(levels(site))
    assert (site["path"]["transfer"], site["path"]["nights"]) == ("paged search", "changes only")
    assert site["path"]["deletions"] == "by history"
    assert site["server"] == server.origin


def test_a_check_reads_one_resource_at_a_time_and_only_of_the_cohort(server: FhirStub, periop: Terminal) -> None:
    checked(periop, "--url", server.base)
    searches = [request for request in server.requests if request.path in TYPES]
    counts = [request for request in searches if request.params == {"_summary": "count"}]  # these return no resource
    assert [request.path for request in counts] == list(TYPES)
    reads = [request for request in searches if request not in counts]
    # More than one only to ask for two patients in one query: of the conditions of the cohort no more than the ids.
    several = [request for request in reads if request.params["_count"] != "1"]
    assert [(each.path, each.params.get("_elements"), each.params["_count"]) for each in several] == [
        ("Condition", "id,subject", "20"),
        ("Patient", None, "2"),
    ]
    assert all({"subject", "_id", "code"} & set(request.params) for request in reads if request.path != "Medication")
    assert {request.method for request in server.requests} == {"GET"}


def test_nothing_of_a_patient_is_shown_at_any_verbosity(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(403, "forbidden") if r.path == "AdverseEvent" else None)
    assert periop("--verbose", "check", "--url", server.base) == 3  # `Terminal` looks for what is secret


def test_it_is_shown_for_people(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(403, "forbidden") if r.path == "AdverseEvent" else None)
    assert periop("check", "--url", server.base) == 3
    assert "✗ AdverseEvent read" in periop.out
    assert "The sync: paged search" in periop.out
    assert "To send to the administrator of the server:" in periop.out
    row = next(line for line in periop.out.splitlines() if line.strip().startswith("Observation"))
    assert row.count("✓") == 4


def test_the_statement_says_yes_and_the_server_says_403(server: FhirStub, periop: Terminal) -> None:
    refused = ("AdverseEvent", "Procedure")
    server.rules.append(lambda r: outcome(403, "forbidden") if r.path in refused else None)
    code, site = checked(periop, "--url", server.base)
    assert code == 3
    # The stub names a patient in its explanation.
    words = '; it says "no such thing for …"'
    assert said(site, "read", "AdverseEvent") == f"not allowed (403), though the CapabilityStatement offers it{words}"
    (request,) = site["requests"]
    assert request.startswith("Please allow the client of periop to read and search Procedure and AdverseEvent at http")


def test_a_type_that_is_not_served(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(404, "not-supported") if r.path == "AdverseEvent" else None)
    code, site = checked(periop, "--url", server.base)
    assert (code, site["requests"]) == (0, [])
    assert said(site, "read", "AdverseEvent") == "not there: a sync does not ask for it"
    periop.configure(SITE.format(url=server.base) + 'types = ["Patient", "Condition", "AdverseEvent"]\n')
    code, site = checked(periop)  # the site is said to have it
    assert (code, levels(site)["read", "AdverseEvent"]) == (3, "missing")
    assert {kind for check, kind in levels(site) if check == "read"} == {"Patient", "Condition", "AdverseEvent"}
    assert "AdverseEvent" in site["requests"][0]
    assert "(404)" in site["requests"][0]


def test_each_type_is_there_with_its_number_or_not_there(server: FhirStub, periop: Terminal) -> None:
    server.types -= {"MedicationStatement"}
    _, site = checked(periop, "--url", server.base)
    assert said(site, "read", "Condition") == "readable by patient, 2 on the server"
    assert said(site, "read", "Medication") == "readable by id, 2 on the server"
    assert said(site, "read", "MedicationStatement") == "not there: a sync does not ask for it"
    server.rules.append(lambda r: outcome(400, "not-supported") if "_summary" in r.params else None)
    _, site = checked(periop, "--url", server.base)
    assert said(site, "read", "Condition") == "readable by patient"


def test_a_type_that_is_not_listed_may_be_there(server: FhirStub, periop: Terminal) -> None:
    statement = server.statement()
    hidden = ("Procedure", "AdverseEvent")
    statement["rest"][0]["resource"] = [e for e in statement["rest"][0]["resource"] if e["type"] not in hidden]
    server.rules.append(lambda r: Reply(body=statement) if r.path == "metadata" else None)
    server.rules.append(lambda r: outcome(403, "forbidden") if r.path == "AdverseEvent" else None)
    code, site = checked(periop, "--url", server.base)
    assert (code, said(site, "read", "AdverseEvent")) == (0, "not there: a sync does not ask for it")
    assert said(site, "read", "Procedure") == "readable by patient, 2 on the server, though no search of it is listed"


def test_of_an_export_the_numbers_are_shown(server: FhirStub, periop: Terminal) -> None:
    server.types -= {"AdverseEvent"}
    periop.configure(SITE.format(url=server.base).replace("search", "bulk"))
    code, site = checked(periop)
    assert (code, said(site, "read", "Observation")) == (0, "there, 2 on the server")
    assert said(site, "read", "AdverseEvent") == "not there: a sync does not ask for it"


def test_no_parameter_subject(server: FhirStub, periop: Terminal) -> None:
    server.parameters.discard("subject")
    code, site = checked(periop, "--url", server.base)
    assert code == 3
    assert said(site, "read", "Observation").startswith("the parameter subject is refused (400)")
    assert levels(site)["read", "Patient"] == "ok"
    (request,) = site["requests"]
    assert "`subject` of Condition, MedicationAdministration, Procedure, AdverseEvent, Observation" in request
    assert "MedicationRequest and DiagnosticReport (FHIR R4) at" in request  # and not of a Medication


def test_a_parameter_subject_that_is_ignored(server: FhirStub, periop: Terminal) -> None:
    server.ignored.add("subject")
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["patient", "Observation"]) == (1, "missing")
    assert "it is ignored" in site["requests"][0]


def test_a_parameter_code_that_is_ignored(server: FhirStub, periop: Terminal) -> None:
    server.ignored.add("code")
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["cohort", "Condition"]) == (1, "missing")
    assert "`code` of Condition" in site["requests"][0]


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_no_last_updated_makes_every_night_a_full_one(server: FhirStub, periop: Terminal, how: str) -> None:
    server.parameters.discard("_lastUpdated")
    server.ignored |= {"_lastUpdated"} if how == "ignored" else set()
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]["nights"]) == (0, "everything")
    assert (
        said(site, "changes", "Patient") == f"the parameter _lastUpdated is {how}: every nightly run reads everything"
    )
    assert how in site["requests"][0]


def test_a_history_that_is_always_empty(server: FhirStub, periop: Terminal) -> None:
    server.history = False
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]["deletions"]) == (0, "by a comparison")
    assert "_history is empty, though there are resources" in said(site, "history", "Patient")


def test_a_history_that_ignores_since(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(
        lambda r: Reply(body=server._history(r.path.split("/")[0], {})) if r.path.endswith("_history") else None
    )
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["history", "Patient"]) == (0, "note")


def test_no_history_means_a_full_comparison(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(400, "not-supported") if r.path.endswith("_history") else None)
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]["nights"], site["path"]["deletions"]) == (0, "changes only", "by a comparison")
    assert "_history" in site["requests"][0]


def test_a_next_link_to_another_origin(server: FhirStub, periop: Terminal) -> None:
    def elsewhere(request: Request) -> Reply | None:
        if request.path != "Condition" or not real(request):
            return None
        links = [{"relation": "next", "url": "http://internal.example:8080/fhir?page=2"}]
        return Reply(body=searchset(server.of_type("Condition")[:1], total=2, link=links))

    server.rules.append(elsewhere)
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["paging", None]) == (1, "missing")
    assert "http://internal.example:8080" in site["requests"][0]
    assert "server_address" in site["requests"][0]


def test_next_links_of_a_server_behind_a_gateway_are_rebased(server: FhirStub, periop: Terminal) -> None:
    server.link_base = "http://internal.example:8080/fhir"
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["paging", None]) == (0, "ok")
    assert "http://internal.example:8080" in said(site, "paging")


@pytest.mark.parametrize(
    ("reply", "words"),
    [(outcome(410, "expired"), "status 410"), (Reply(body=searchset([], total=2)), None)],
    ids=["expired", "empty last page"],
)
def test_following_a_next_link(server: FhirStub, periop: Terminal, reply: Reply, words: str | None) -> None:
    server.rules.append(lambda r: reply if "_offset" in r.params else None)
    code, site = checked(periop, "--url", server.base)
    assert code == (1 if words else 0)
    if words:
        assert words in said(site, "paging")


def test_a_next_link_that_leads_to_the_same_page(server: FhirStub, periop: Terminal) -> None:
    page = searchset(server.of_type("Condition")[:1], total=2)
    server.rules.append(lambda r: Reply(body=page) if "_offset" in r.params else None)
    code, site = checked(periop, "--url", server.base)
    assert (code, said(site, "paging")) == (1, "a next link leads to the same page again")


def test_more_announced_than_paged(server: FhirStub, periop: Terminal) -> None:
    def one_page(request: Request) -> Reply | None:
        return Reply(body=searchset(server.of_type(request.path)[:1], total=2)) if real(request) else None

    server.rules.append(one_page)
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["paging", None]) == (1, "missing")


@pytest.mark.parametrize(("minutes", "where"), [(10, "ahead of"), (-10, "behind")])
def test_a_clock_that_is_off(server: FhirStub, periop: Terminal, minutes: int, where: str) -> None:
    server.clock = timedelta(minutes=minutes)
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["clock", None]) == (0, "note")
    (request,) = site["requests"]
    assert request.startswith("Please set the clock of http")
    assert any(f"it is {seconds} s {where} ours" in request for seconds in (599, 600, 601))


def test_no_date(server: FhirStub, periop: Terminal) -> None:
    server.dated = False
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["clock", None]) == (0, "note")
    assert "header Date" in site["requests"][0]
    assert site["path"]["nights"] == "everything"


def test_no_compression(server: FhirStub, periop: Terminal) -> None:
    server.gzip = False
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["gzip", None]) == (0, "note")


def test_a_login_page(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: Reply(body="<!DOCTYPE html><html>Sign in</html>", kind="text/html"))
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]) == (1, None)
    assert "web page, probably its login" in said(site, "reach")
    assert "how a program signs in" in site["requests"][0]


def first_of_a_list(request: Request) -> Request:
    """The request as a server understands it that takes the first value of a list only."""
    request.params["_id"] = request.params.get("_id", "").split(",")[0]
    return request


def test_two_patients_in_one_query(server: FhirStub, periop: Terminal) -> None:
    _, site = checked(periop, "--url", server.base)
    assert said(site, "patients", None) == "two patients in one query are both answered"
    server.rules.append(lambda r: server.answer(first_of_a_list(r)) if "," in r.params.get("_id", "") else None)
    code, site = checked(periop, "--url", server.base)
    assert code == 0
    assert said(site, "patients", None) == (
        "of two patients in one query 1 came: a sync asks for one at a time, which takes longer"
    )


@pytest.mark.parametrize("kind", ["search", "bulk"])
def test_every_request_gets_401(server: FhirStub, periop: Terminal, kind: str) -> None:
    """Also the CapabilityStatement, which needs no credentials elsewhere."""
    server.rules.append(lambda _: outcome(401, "login"))
    periop.configure(
        SITE.format(url=server.base).replace("search", kind) + 'auth = { kind = "bearer", token_env = "T" }'
    )
    assert periop("check", environ={"T": "s3cret"}) == 6


def test_a_login_page_instead_of_a_search(server: FhirStub, periop: Terminal) -> None:
    login = Reply(body="<html>Sign in</html>", kind="text/html")
    server.rules.append(lambda r: login if r.path in TYPES else None)
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]) == (6, None)
    assert levels(site)["cohort", "Condition"] == "refused"


def test_another_version(server: FhirStub, periop: Terminal) -> None:
    server.version = "5.0.0"
    code, site = checked(periop, "--url", server.base)
    assert code == 1
    assert site["requests"] == [
        f"Please give us a FHIR R4 (4.0.1) endpoint: the one at {server.origin} speaks FHIR 5.0.0."
    ]


def test_something_else_than_fhir(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: Reply(body={"hello": "world"}, kind="application/json"))
    code, site = checked(periop, "--url", server.base)
    assert (code, levels(site)["fhir", None]) == (1, "missing")


def test_a_redirect(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: Reply(302, headers={"Location": "http://internal.example/login"}))
    code, site = checked(periop, "--url", server.base)
    assert (code, said(site, "reach")) == (1, "it redirects (302): set `url` to the final address")


BEARER = """
[[sites]]
name = "milan"
kind = "search"
url = "{url}"
auth = {{ kind = "bearer", token_env = "TOKEN" }}
"""


def test_credentials_that_are_accepted(server: FhirStub, periop: Terminal) -> None:
    server.token = "s3cret"
    periop.configure(BEARER.format(url=server.base))
    code, site = checked(periop, "milan", environ={"TOKEN": "s3cret"})
    assert (code, site["site"]) == (0, "milan")
    without = [request for request in server.requests if "authorization" not in request.headers]
    assert [request.path for request in without] == ["metadata"]


def test_credentials_that_are_refused(server: FhirStub, periop: Terminal) -> None:
    server.token = "another"
    periop.configure(BEARER.format(url=server.base))
    code, site = checked(periop, environ={"TOKEN": "s3cret"})
    assert (code, site["path"]) == (6, None)
    assert "(401)" in site["requests"][0]


def test_credentials_that_are_not_configured(server: FhirStub, periop: Terminal) -> None:
    server.token = "another"
    code, site = checked(periop, "--url", server.base)
    assert (code, site["path"]) == (6, None)
    assert "how a program signs in to it: it asks for credentials (401)" in site["requests"][0]


def test_an_outcome_among_the_matches_is_no_match(server: FhirStub, periop: Terminal) -> None:
    """Some servers say in an OperationOutcome, without a search mode, that nothing was found."""

    def nothing(request: Request) -> Reply | None:
        if request.path not in TYPES or "periop" not in str(request.params):
            return None
        issue = {"severity": "information", "code": "not-found"}
        entry = {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}}
        return Reply(body={"resourceType": "Bundle", "type": "searchset", "total": 0, "entry": [entry]})

    server.rules.append(nothing)
    code, site = checked(periop, "--url", server.base)
    assert (code, set(levels(site).values())) == (0, {"ok"})


def test_a_secret_that_is_missing_is_a_matter_of_the_configuration(server: FhirStub, periop: Terminal) -> None:
    periop.configure(BEARER.format(url=server.base))
    assert periop("check") == 2
    assert "environment variable TOKEN" in periop.err


def test_a_site_or_a_url(periop: Terminal) -> None:
    assert periop("check", "milan", "--url", "http://127.0.0.1:1/fhir") == 2
    assert "not both" in periop.err
    assert periop("check", "--url", "ftp://127.0.0.1") == 2
    assert periop("check") == 2


BULK = """
[[sites]]
name = "milan"
kind = "bulk"
url = "{url}"
level = "group"
group = "cohort"
"""


def test_a_bulk_site_is_checked_without_starting_an_export(server: FhirStub, periop: Terminal) -> None:
    server.put({"resourceType": "Group", "id": "cohort"})
    periop.configure(BULK.format(url=server.base))
    code, site = checked(periop)
    assert (code, site["path"]["transfer"]) == (0, "bulk export")
    assert not [request for request in server.requests if "$export" in request.path]


def test_a_bulk_site_without_its_group_and_its_level(server: FhirStub, periop: Terminal) -> None:
    server.export = ("system",)
    periop.configure(BULK.format(url=server.base))
    code, site = checked(periop)
    assert code == 1
    assert levels(site)["export", None] == levels(site)["access", None] == "missing"
    assert site["path"] is None
    assert "$export at the group level" in site["requests"][0]
    assert "answered with 404" in site["requests"][1]


@pytest.mark.parametrize(
    ("status", "code", "level"), [(200, 0, "ok"), (401, 6, "refused"), (403, 0, "note")], ids=["yes", "no", "who knows"]
)
def test_whether_the_credentials_of_a_bulk_site_are_accepted(
    server: FhirStub, periop: Terminal, status: int, code: int, level: str
) -> None:
    """A client that may only export is refused a search: that says nothing about the export."""
    if status != 200:
        server.rules.append(lambda r: outcome(status, "forbidden") if r.path == "Patient" else None)
    periop.configure(BULK.format(url=server.base).replace('level = "group"\ngroup = "cohort"', 'level = "system"'))
    found, site = checked(periop)
    assert (found, levels(site)["access", None]) == (code, level)


FOLDER = """
[[sites]]
name = "milan"
kind = "folder"
path = "fhir"
"""


def test_a_folder(periop: Terminal) -> None:
    periop.configure(FOLDER)
    (periop.folder / "fhir").mkdir()
    for kind in TYPES[:5]:
        line = json.dumps({"resourceType": kind, "id": "secret-patient"})
        (periop.folder / "fhir" / f"{kind}.ndjson").write_text(f"{line}\nCanary-Smith\n")
    code, site = checked(periop)
    assert (code, site["path"]["transfer"]) == (0, "folder")
    assert said(site, "folder") == "5 files to read"
    assert levels(site)["read", "Observation"] == "note"
    assert said(site, "readable") == "5 of the first 100 resources of each file would be set aside: not-json"


def test_a_folder_that_holds_everything(periop: Terminal) -> None:
    periop.configure(f"{FOLDER}complete = true\n")
    (periop.folder / "fhir").mkdir()
    for kind in TYPES:
        line = json.dumps({"resourceType": kind, "id": "a"})
        (periop.folder / "fhir" / f"{kind}.ndjson").write_text(f"{line}\n")
    code, site = checked(periop)
    assert (code, site["path"]["deletions"]) == (0, "by a comparison")


def test_a_folder_that_is_missing(periop: Terminal) -> None:
    periop.configure(FOLDER)
    code, site = checked(periop)
    assert (code, site["path"]) == (1, None)

"""The resource types of a site: which are asked for, what becomes of those it lacks, and Medications by reference."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from connectors.fhir.outcome import lacks_type, outcome_text, refused_types
from connectors.http.authenticators import NoAuth
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Cursor, Lake
from connectors.report import Counts, SyncReport
from connectors.sources.folder import FolderSource
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from schedules.config.resource_types import TYPES
from tests.fhir_server import BASE, Features, ModelServer

SIX = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
DRUGS = ("Patient", "Condition", "MedicationAdministration", "Medication")
DAY = timedelta(days=1)
NOT_ASKED = "not at this site, so not asked for: {} ({})"


class Site:
    """A model server with patient `a`, and a data folder that follows it."""

    def __init__(self, folder: Path, types: tuple[str, ...] = SIX, **features: Any) -> None:
        self.server = ModelServer(Features(**features))
        self.lake = Lake(folder / "lake")
        self.quarantine = Quarantine(folder / "quarantine")
        self.types = types
        self.tolerant = False
        self.patient("a")

    def patient(self, name: str) -> None:
        self.server.put("Patient", name)
        self.server.put("Condition", f"c-{name}", code={"text": "lung"}, subject={"reference": f"Patient/{name}"})

    def about(self, kind: str, name: str, patient: str = "a", **elements: Any) -> None:
        self.server.put(kind, name, subject={"reference": f"Patient/{patient}"}, **elements)

    def dose(self, name: str, medication: str) -> None:
        self.about("MedicationAdministration", name, medicationReference={"reference": medication})

    def source(self) -> SearchSource:
        return SearchSource(
            BASE,
            CohortQuery("Condition", (("code", "lung"),)),
            self.types,
            NoAuth(),
            SearchLimits(streams=1, batch=2),
            TransferLimits(backoff=0.0, backoff_cap=0.0),
            Clock(sleep=lambda _: None, random=lambda: 0.0),
            self.server,
            tolerant=self.tolerant,
            stored=lambda: self.lake.patients("site"),
            texts=lambda kind: self.lake.texts("site", kind),
        )

    def sync(self, *, full: bool = False, days: int = 1) -> SyncReport:
        self.server.now += days * DAY
        self.server.requests.clear()
        return sync_site(self.source(), self.lake, "site", self.quarantine, full=full)

    def asked(self, kind: str) -> list[str]:
        """The searches for a type, each as its parameters without the usual ones."""
        usual = {"_count", "_total", "_elements"}
        return [
            "&".join(f"{name}={value}" for name, value in query.items() if name not in usual)
            for path, query in self.server.requests
            if path == kind and "code" not in query
        ]

    def ids(self, kind: str) -> list[str]:
        """Ids of what the lake holds and no later sync deleted."""
        batches = self.lake.rows("site", ["id", "sync", "deleted"])
        rows = sorted(
            (row["sync"], row["id"], row["deleted"])
            for batch in batches
            for row in batch.to_pylist()
            if row["resource_type"] == kind
        )
        newest = {id_: deleted for _, id_, deleted in rows}
        return sorted(id_ for id_, deleted in newest.items() if not deleted)

    def state(self) -> dict[str, str]:
        cursor = self.lake.cursor("site")
        assert cursor is not None
        return dict(cursor.state)


# --- what an OperationOutcome says ---


def outcome(*words: str) -> bytes:
    issues = [{"severity": "error", "code": "processing", "diagnostics": each} for each in words]
    return json.dumps({"resourceType": "OperationOutcome", "issue": issues}).encode()


@pytest.mark.parametrize(
    ("status", "words", "lacking"),
    [
        (404, "HAPI-0302: Unknown resource type 'AdverseEvent' - Server knows how to handle: [Account, Patient]", True),
        (400, "Unknown resource type 'AdverseEvent'", True),
        (422, "The resource type AdverseEvent is not supported by this server", True),
        (501, "Unsupported resource AdverseEvent", True),
        (404, "not found", True),
        (404, "", True),
        (404, "Patient/123 is not known", False),
        (
            400,
            'Unknown search parameter "subject" for resource type "AdverseEvent". Valid search parameters: [_id]',
            False,
        ),
        (400, "Search parameter subject of resource type AdverseEvent is not supported", False),
        (400, "", False),
        (403, "The resource type AdverseEvent is not available to this client", False),
    ],
)
def test_a_refusal_says_whether_the_type_is_lacking(status: int, words: str, lacking: bool) -> None:
    assert lacks_type(status, outcome_text(outcome(words))) is lacking


def test_without_an_outcome_nothing_is_known() -> None:
    assert outcome_text(b"<html>Not found</html>") is None
    assert outcome_text(b'{"resourceType": "Patient"}') is None
    assert lacks_type(404, None) is False


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("The type AdverseEvent is not supported", {"AdverseEvent"}),
        ("Patient/$export: AdverseEvent and Medication are not available", {"AdverseEvent", "Medication"}),
        ("_type must be one of: Condition, Patient", {"AdverseEvent", "Medication"}),
        ("Invalid _type. Valid values are Condition, Medication, Patient", {"AdverseEvent"}),
        ("AdverseEvent is not allowed. Allowed: Condition, Medication, Patient", {"AdverseEvent"}),
        ("the export is not possible", set()),
        ("only resources of Patient can be exported", set()),
        ("", set()),
    ],
)
def test_an_outcome_names_the_types_that_are_refused_or_those_that_are_offered(words: str, refused: set[str]) -> None:
    assert refused_types(words, ("Patient", "Condition", "AdverseEvent", "Medication")) == refused


# --- a type that the server lacks ---


def test_fault_34_a_type_that_the_server_lacks_is_told_once_and_not_asked_for_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for name in "bc":  # two batches
        site.patient(name)
    site.server.lacking = {"AdverseEvent"}
    site.about("Procedure", "s")
    told = NOT_ASKED.format("AdverseEvent", "the server says that it does not have them")
    report = site.sync()
    assert (report.status, report.messages, report.notes) == ("ok", (), (told,))
    assert len(site.asked("AdverseEvent")) == 1
    report = site.sync()
    assert (report.status, report.notes, site.asked("AdverseEvent")) == ("ok", (told,), [])
    assert not [path for path, _ in site.server.requests if path.startswith("AdverseEvent")]


def test_a_type_that_the_server_has_learnt_is_read_from_the_beginning(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.server.lacking = {"AdverseEvent"}
    site.about("AdverseEvent", "e")
    site.sync()
    site.server.lacking = set()
    assert site.sync().counts == Counts()
    report = site.sync(days=7)  # when all ids are compared
    assert (report.by_type, report.notes) == ({"AdverseEvent": Counts(received=1, stored=1)}, ())
    assert site.state()["since.AdverseEvent"]
    assert "absent.AdverseEvent" not in site.state()


def test_fault_34_a_type_that_is_gone_makes_the_site_partial_until_it_is_left_out(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.about("AdverseEvent", "e")
    site.sync()
    site.server.lacking = {"AdverseEvent"}
    for full in (False, False, True):
        report = site.sync(full=full)
        assert (report.status, site.ids("AdverseEvent")) == ("partial", ["e"])
        assert report.messages[0].startswith("AdverseEvent: the site no longer has this type")
    site.types = tuple(kind for kind in SIX if kind != "AdverseEvent")
    assert site.sync().status == "ok"


@pytest.mark.parametrize("status", [400, 403, 404])
def test_fault_34_a_refusal_for_another_reason_makes_the_site_partial(tmp_path: Path, status: int) -> None:
    site = Site(tmp_path)
    site.server.refusals = {"AdverseEvent": status}
    report = site.sync()
    assert report.status == "partial"
    assert f"refused the query ({status})" in report.messages[0]


def test_a_server_without_patients_is_broken_and_not_without_a_type(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.server.lacking = {"Patient"}
    report = site.sync()
    assert (report.status, "Patient of patients 1 to 1" in report.messages[0]) == ("partial", True)


# --- what the CapabilityStatement lists ---


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_what_is_neither_listed_nor_answered_is_not_there(tmp_path: Path, status: int) -> None:
    site = Site(tmp_path)
    site.tolerant = True
    site.server.listed = ("Patient", "Condition", "Observation")
    site.server.refusals = {"AdverseEvent": status}
    for count in (1, 0):
        report = site.sync()
        (note,) = report.notes
        assert report.status == "ok"
        assert note.startswith("not at this site, so not asked for: AdverseEvent (its CapabilityStatement")
        assert len(set(site.asked("AdverseEvent"))) == count


def test_what_is_not_listed_is_read_where_it_is_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.tolerant = True
    site.server.listed = ("Patient", "Condition")
    site.about("Procedure", "s")
    report = site.sync()
    assert (report.status, report.notes, site.ids("Procedure")) == ("ok", (), ["s"])
    site.server.refusals = {"Procedure": 403}  # what the lake has is no longer a trial
    assert site.sync().status == "partial"


@pytest.mark.parametrize("listed", [None, (), ("Observation",)])
def test_a_statement_that_cannot_be_believed_excuses_nothing(tmp_path: Path, listed: tuple[str, ...] | None) -> None:
    site = Site(tmp_path)
    site.tolerant = True
    site.server.listed = listed
    site.server.refusals = {"AdverseEvent": 400}
    assert site.sync().status == "partial"


def test_scopes_are_for_the_types_that_are_listed_or_in_the_lake(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.about("Procedure", "s")
    site.sync()
    site.tolerant = True
    site.server.listed = ("Patient", "Condition", "Observation")
    source = site.source()
    source.auth = Narrowed()
    list(source.pull(None))
    assert source.auth.types == ("Patient", "Condition", "Procedure", "Observation")


class Narrowed(NoAuth):
    """Credentials that keep the types that they are for."""

    missing_scopes = unreadable_types = types = ()

    def narrow(self, types: tuple[str, ...]) -> None:
        object.__setattr__(self, "types", types)


# --- a type that is newly asked for ---


def test_a_lake_of_an_older_version_gets_the_new_types_and_nothing_else_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.dose("d", "Medication/m")
    site.server.put("Medication", "m")
    site.about("MedicationStatement", "st")
    site.sync()
    before = site.lake.cursor("site")
    assert before is not None
    asked = (BASE, "Condition", urlencode({"code": "lung"}), *SIX)  # the fingerprint of version 0.1
    assert before.fingerprint == hashlib.sha256("\n".join(("search", *asked)).encode()).hexdigest()
    site.types = TYPES
    report = site.sync()
    assert report.by_type == {
        "Medication": Counts(received=1, stored=1),  # of a dose that does not come again
        "MedicationStatement": Counts(received=1, stored=1),
    }
    assert site.asked("MedicationStatement") == ["subject=Patient/a"]
    assert site.sync().counts == Counts()


def test_a_type_that_was_left_out_for_a_while_is_read_from_the_beginning(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.about("Procedure", "s")
    site.sync()
    site.types = tuple(kind for kind in SIX if kind != "Procedure")
    site.patient("b")
    site.server.now -= 3 * DAY
    site.about("Procedure", "old", "b")  # older than the last sync that asked for procedures
    site.server.now += 3 * DAY
    site.sync()
    site.types = SIX
    site.sync()
    assert site.ids("Procedure") == ["old", "s"]


# --- a cohort query in other words ---


def test_where_the_cohort_query_finds_nobody_it_is_asked_in_other_words(tmp_path: Path) -> None:
    site = Site(tmp_path)
    cohort = CohortQuery("Condition", (("code", "nothing"),), ((("code", "none"),), (("code", "lung"),)))
    source = site.source()
    source.cohort = cohort
    sync_site(source, site.lake, "site", site.quarantine)
    assert site.ids("Condition") == ["c-a"]
    asked = [query["code"] for path, query in site.server.requests if "code" in query and "_summary" not in query]
    assert asked == ["nothing", "none", "lung"]
    site.server.requests.clear()
    source.cohort = CohortQuery("Condition", (("code", "lung"),), ((("code", "none"),),))
    list(source.plan(None))
    assert {query["code"] for path, query in site.server.requests if "code" in query} == {"lung"}


# --- Medications ---


def test_medications_are_read_by_the_references_of_drugs(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    for name in ("m1", "m2", "m3", "unused"):
        site.server.put("Medication", name)
    site.dose("d1", "Medication/m1")
    site.dose("d2", f"{BASE}/Medication/m2/_history/1")
    site.dose("d3", "#m3")
    site.dose("d4", "http://other.example/fhir/Medication/m3")
    site.about("MedicationAdministration", "d5", medicationCodeableConcept={"text": "alectinib"})
    report = site.sync()
    assert (report.status, report.without_patient, site.ids("Medication")) == ("ok", {}, ["m1", "m2"])
    assert site.asked("Medication") == ["_id=m1,m2"]
    assert report.notes == ("1 references of drugs lead to a Medication on another server, which is not asked",)


def test_a_quiet_night_asks_for_no_medication_and_a_change_is_found(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    site.server.put("Medication", "m1")
    site.dose("d1", "Medication/m1")
    site.sync()
    site.sync()
    assert (site.sync().counts, site.asked("Medication")) == (Counts(), [])
    site.server.put("Medication", "m1", code={"text": "alectinib"})
    site.server.put("Medication", "m2")
    site.dose("d2", "Medication/m2")
    report = site.sync()
    assert report.by_type["Medication"].stored == 2
    assert site.asked("Medication")[-1] == "_id=m2"
    assert [each.partition("&")[0] for each in site.asked("Medication")] == ["_id=m1", "_id=m2"]


def test_a_medication_is_deleted_only_if_the_server_reports_it(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    for name in ("m1", "m2"):
        site.server.put("Medication", name)
        site.dose(f"d-{name}", f"Medication/{name}")
    site.sync()
    site.sync()
    site.server.delete("MedicationAdministration", "d-m1")
    assert site.sync(days=8).deleted == {"MedicationAdministration": 1}  # and ids were compared
    assert site.sync(full=True).removed == {}
    assert site.ids("Medication") == ["m1", "m2"]
    site.server.delete("Medication", "m2")
    assert site.sync().deleted == {"Medication": 1}
    assert site.ids("Medication") == ["m1"]


def test_a_medication_that_is_not_there_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    site.dose("d1", "Medication/nowhere")
    report = site.sync()
    assert (report.status, report.notes) == ("ok", ("1 Medications that drugs refer to are not on the server",))


def test_medications_that_could_not_be_read_are_read_the_next_night(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    site.server.put("Medication", "m1")
    site.dose("d1", "Medication/m1")
    site.server.refusals = {"Medication": 403}
    assert site.sync().status == "partial"
    site.server.refusals = {}
    report = site.sync()  # the dose does not come again
    assert (report.status, report.by_type) == ("ok", {"Medication": Counts(received=1, stored=1)})


def test_a_server_that_ignores_the_ids_of_medications_is_noticed(tmp_path: Path) -> None:
    site = Site(tmp_path, DRUGS)
    site.server.put("Medication", "m1")
    site.server.put("Medication", "m2")
    site.dose("d1", "Medication/m1")
    site.server.ignored = {"_id"}
    report = site.sync()
    assert (report.status, site.ids("Medication")) == ("partial", ["m1"])


# --- sources that always hold everything ---


def test_what_is_not_asked_for_is_not_taken_as_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "fhir"
    folder.mkdir()
    resources = [{"resourceType": kind, "id": "x"} for kind in ("Patient", "Procedure")]
    (folder / "all.ndjson").write_text("".join(f"{json.dumps(each)}\n" for each in resources))
    lake, quarantine = Lake(tmp_path / "lake"), Quarantine(tmp_path / "quarantine")
    for types in (frozenset({"Patient", "Procedure"}), frozenset({"Patient"})):
        report = sync_site(FolderSource(folder, types, whole=True), lake, "site", quarantine)
        assert report.removed == {}
    (folder / "all.ndjson").write_text('{"resourceType": "Patient", "id": "y"}\n')
    assert sync_site(FolderSource(folder, types, whole=True), lake, "site", quarantine).removed == {"Patient": 1}


def test_the_texts_of_a_type_are_of_one_site(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert list(lake.texts("site", "Patient")) == []
    site = Site(tmp_path)
    site.sync()
    assert [id_ for id_, _ in lake.texts("site", "Patient")] == ["a"]
    assert list(lake.texts("other", "Patient")) == []
    assert isinstance(lake.cursor("site"), Cursor)


# --- records that are linked (Patient.link) ---


def link(other: str) -> dict[str, Any]:
    return {"type": "replaces", "other": {"reference": f"Patient/{other}"}}


def test_linked_records_are_asked_for_from_the_next_sync_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.server.put("Patient", "a", link=[link("old"), {"other": {"identifier": {"value": "?"}}}, "no link"])
    site.server.put("Patient", "old", link=[link("older")])
    for name in ("old", "older", "stranger"):
        site.about("Procedure", f"p-{name}", name)
    site.server.put("Patient", "older", link=[link("a")])
    site.server.put("Patient", "stranger", link=[link("a")])  # nobody in the cohort says so
    assert site.sync().status == "ok"
    assert site.ids("Procedure") == []
    assert site.sync().status == "ok"
    assert site.sync().status == "ok"
    assert site.ids("Patient") == ["a", "old", "older"]
    assert site.ids("Procedure") == ["p-old", "p-older"]
    site.server.put("Procedure", "p-old", subject={"reference": "Patient/old"}, status="completed")
    assert site.sync().counts.stored == 1

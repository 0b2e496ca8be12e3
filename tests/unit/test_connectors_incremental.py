"""Incremental nights of a search: what is asked, what is found out of a server, what ends as deleted, what is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import AuthenticationError, UnavailableError
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Cursor, Lake
from connectors.report import Counts, SyncReport
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from tests.fhir_server import BASE, Features, ModelServer

TYPES = ("Patient", "Condition", "Observation")
DAY = timedelta(days=1)


class Site:
    """A model server and a data folder that follows it."""

    def __init__(self, folder: Path, **features: Any) -> None:
        self.server = ModelServer(Features(**features))
        self.lake = Lake(folder / "lake")
        self.quarantine = Quarantine(folder / "quarantine")
        self.limits: dict[str, Any] = {"streams": 1, "batch": 2}
        self.types: tuple[str, ...] = TYPES

    def patient(self, name: str, observations: int = 2, code: str = "lung") -> None:
        subject = {"subject": {"reference": f"Patient/{name}"}}
        self.server.put("Patient", name)
        self.server.put("Condition", f"c-{name}", code={"text": code}, **subject)
        for n in range(observations):
            self.observe(name, n)

    def observe(self, patient: str, n: int, value: int = 0) -> None:
        subject = {"reference": f"Patient/{patient}"}
        self.server.put("Observation", f"o-{patient}-{n}", subject=subject, valueInteger=value)

    def sync(self, *, full: bool = False, after: timedelta = DAY) -> SyncReport:
        """One night, a day after the last one; what it asked is in `asked`."""
        self.server.now += after
        self.server.requests.clear()
        source = SearchSource(
            BASE,
            CohortQuery("Condition", (("code", "lung"),)),
            self.types,
            limits=SearchLimits(**self.limits),
            transfer=TransferLimits(backoff=0.0, backoff_cap=0.0),
            clock=Clock(sleep=lambda _: None, random=lambda: 0.0),
            http_transport=self.server,
            stored=lambda: self.lake.patients("site"),
        )
        return sync_site(source, self.lake, "site", self.quarantine, full=full)

    def asked(self) -> list[str]:
        """The requests of the last sync, without the cohort query, as `Type?parameters` without the usual ones."""
        usual = {"_count", "_total"}
        shown = [
            path + "?" + "&".join(f"{name}={value}" for name, value in query.items() if name not in usual)
            for path, query in self.server.requests
        ]
        return [each for each in shown if "code=" not in each]

    def current(self) -> dict[tuple[str, str], str]:
        """What the lake holds as current: (type, id) -> the resource as text."""
        names = ["id", "last_updated", "sync", "deleted", "resource"]
        newest: dict[tuple[str, str], tuple[tuple[str, int], bool, str]] = {}
        for batch in self.lake.rows("site", names):
            for row in batch.to_pylist():
                key, order = (row["resource_type"], row["id"]), (row["last_updated"] or "", row["sync"])
                if key not in newest or order > newest[key][0]:
                    newest[key] = (order, row["deleted"], row["resource"])
        return {key: text for key, (_, deleted, text) in newest.items() if not deleted}

    def ids(self, kind: str) -> list[str]:
        return sorted(id_ for each, id_ in self.current() if each == kind)

    def cursor(self) -> Cursor:
        cursor = self.lake.cursor("site")
        assert cursor is not None
        return cursor


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    for name in "abc":
        site.patient(name)
    return site


def test_a_quiet_night_asks_once_a_type(site: Site) -> None:
    assert site.sync().counts == Counts(received=12, stored=12)
    commits = site.lake.version()
    quiet = site.sync()
    assert (quiet.status, quiet.counts, quiet.sync_number) == ("ok", Counts(), 1)
    # from five minutes before the last sync began: 18 resources were put from midnight on, one a second
    since = "2024-01-01T23:55:12.000Z"
    assert site.asked() == [f"{kind}/_history?_since={since}&_elements=id" for kind in sorted(TYPES)]
    assert site.lake.version() == commits + 1  # the cursor alone
    site.sync()
    assert "_since=2024-01-02T23:55:12.000Z" in site.asked()[0]


def tried(site: Site) -> list[str]:
    """Return the types by which the last sync tried a list of patients."""
    return [each.partition("?")[0] for each in site.asked() if "_elements=id" in each and "_history" not in each]


def test_fault_162_lists_are_tried_where_they_are_used_and_once_for_a_server(site: Site) -> None:
    site.limits["reconcile_days"] = 3.0
    site.sync()
    assert tried(site) == ["Patient", "Condition"]
    site.sync()
    assert tried(site) == []  # nothing changed, so no list is sent
    site.server.put("Observation", "o-new", subject={"reference": "Patient/a"})
    assert site.sync().counts.stored == 1
    assert tried(site) == ["Condition"]  # that the index is not blank
    site.sync(after=timedelta(days=4))
    assert tried(site)[:2] == ["Patient", "Condition"]  # anew, with the comparison of all ids


def test_fault_162_a_server_that_stops_to_understand_lists_is_noticed(site: Site) -> None:
    site.sync()
    site.server.features.first_only = True
    for name in "abc":
        site.server.put("Observation", f"o-{name}-late", subject={"reference": f"Patient/{name}"})
    report = site.sync()
    assert (report.status, report.counts.stored) == ("ok", 3)
    assert "asked for one at a time" in " ".join(report.notes)


def test_a_quiet_night_without_history_asks_once_a_type_and_batch(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    for name in "abc":
        site.patient(name)
    site.sync()
    assert site.sync().counts == Counts()
    asked = site.asked()[1:]  # after the one that tries a list of the cohort's type
    assert len(asked) == 6  # three types, two batches of at most two patients
    assert all("_lastUpdated=ge2024-01-01T23:55:12.000Z" in each for each in asked)


def test_a_night_brings_changes_of_known_patients_and_everything_of_new_ones(site: Site) -> None:
    site.sync()
    site.observe("a", 0, value=1)
    site.patient("d", observations=3)
    report = site.sync()
    assert report.by_type == {
        "Condition": Counts(received=1, stored=1),
        "Observation": Counts(received=4, stored=4),
        "Patient": Counts(received=1, stored=1),
    }
    assert "Observation?subject=Patient/d" in site.asked()
    assert len(site.current()) == 12 + 5


def test_a_patient_who_enters_the_cohort_late_is_asked_for_in_full(site: Site) -> None:
    site.patient("z", code="breast")
    site.sync()
    site.server.put("Condition", "c-z", code={"text": "lung"}, subject={"reference": "Patient/z"})
    assert site.sync().counts == Counts(received=4, stored=4)
    assert site.ids("Observation")[-2:] == ["o-z-0", "o-z-1"]


def test_fault_16_a_deletion_is_told_by_the_history(site: Site) -> None:
    site.sync()
    site.server.delete("Observation", "o-a-0")
    site.server.delete("Observation", "o-b-0")
    site.observe("b", 0, value=9)  # and it is there again
    site.patient("q", code="breast")
    site.server.delete("Observation", "o-q-0")  # of a patient whom nobody asked for
    report = site.sync(after=timedelta(seconds=5))
    assert (report.status, report.deleted, report.removed) == ("ok", {"Observation": 1}, {})
    assert report.by_type == {"Observation": Counts(received=2, stored=2)}
    assert site.ids("Observation") == ["o-a-1", "o-b-0", "o-b-1", "o-c-0", "o-c-1"]
    again = site.sync(after=timedelta(seconds=1))  # the overlap tells it once more
    assert (again.counts, again.deleted) == (Counts(received=2, identical=2), {})


def test_fault_16_without_history_the_ids_are_compared_after_a_week(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    site.patient("a")
    site.sync()
    site.server.delete("Observation", "o-a-0")
    site.server.delete("Patient", "a")
    assert [site.sync().removed for _ in range(6)] == [{}] * 6
    assert site.ids("Observation") == ["o-a-0", "o-a-1"]
    report = site.sync()
    assert (report.status, report.removed, report.counts) == ("ok", {"Observation": 1, "Patient": 1}, Counts())
    assert "Observation?subject=Patient/a&_elements=id,meta" in site.asked()
    assert (site.ids("Observation"), site.ids("Patient")) == (["o-a-1"], [])
    assert site.sync().removed == {}
    site.observe("a", 0, value=3)
    assert site.sync().counts.stored == 1  # it comes back
    assert site.ids("Observation") == ["o-a-0", "o-a-1"]


def test_fault_16_full_finds_deletions_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    site.patient("a")
    site.sync()
    site.server.delete("Observation", "o-a-1")
    report = site.sync(full=True)
    assert (report.removed, report.counts) == ({"Observation": 1}, Counts(received=3, identical=3))


def test_nothing_is_taken_as_deleted_from_a_window_that_was_not_whole(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False, page=1)
    site.patient("a", observations=4)
    site.sync()
    site.limits["restarts"] = 0
    site.server.delete("Observation", "o-a-0")
    site.server.expired = 1
    report = site.sync(full=True)
    assert (report.status, report.removed) == ("partial", {})
    assert "o-a-0" in site.ids("Observation")


def test_a_patient_who_leaves_the_cohort_is_told_and_not_deleted(site: Site) -> None:
    site.sync()
    site.server.put("Condition", "c-a", code={"text": "breast"}, subject={"reference": "Patient/a"})
    site.observe("a", 7)
    report = site.sync()
    assert report.status == "ok"
    assert [note for note in report.notes if note.startswith("1 patients are in the lake and no longer")]
    assert '"breast"' in site.current()["Condition", "c-a"]  # why the patient left is known
    assert site.ids("Observation") == [f"o-{patient}-{n}" for patient in "abc" for n in range(2)]
    site.sync()
    assert not any("Patient/a" in each for each in site.asked())  # nothing more is asked of them
    site.server.put("Condition", "c-a", code={"text": "lung"}, subject={"reference": "Patient/a"})
    site.sync()
    assert "o-a-7" in site.ids("Observation")  # back in the cohort: in full


def test_a_patient_whose_condition_was_deleted_leaves_the_lake_s_cohort_too(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    site.patient("a")
    site.patient("b")
    site.sync()
    site.server.delete("Condition", "c-a")
    assert site.sync().removed == {"Condition": 1}
    assert site.ids("Condition") == ["c-b"]


@pytest.mark.parametrize("changes", ["ignored", "refused", "echoed"])
def test_fault_15_a_server_that_ignores_last_updated_is_pulled_in_full(tmp_path: Path, changes: str) -> None:
    site = Site(tmp_path, changes=changes, history=False)
    site.patient("a", observations=3)
    site.sync()
    site.observe("a", 0, value=1)
    site.server.delete("Observation", "o-a-1")
    report = site.sync()
    assert report.counts.stored == 1
    assert report.counts.received == 1 + report.counts.identical  # what came until it was noticed, and everything
    assert (report.status, report.removed) == ("ok", {"Observation": 1})
    assert any("Observation: the server ignores _lastUpdated" in note for note in report.notes)
    assert site.cursor().state["changes.Observation"] == "no"
    site.observe("a", 0, value=2)
    report = site.sync()
    assert report.counts == Counts(received=4, stored=1, identical=3)
    assert any("does not search by _lastUpdated" in note for note in report.notes)
    assert not any("_lastUpdated=ge" in each for each in site.asked())


def test_a_server_that_has_learned_to_search_by_last_updated_is_believed_again(tmp_path: Path) -> None:
    site = Site(tmp_path, changes="ignored", history=False)
    site.patient("a")
    site.sync()
    site.sync()
    site.server.features.changes = "yes"
    site.sync()  # in full, and at the end the question for changes after the year 2999
    assert site.cursor().state["changes.Observation"] == "yes"
    assert site.sync().counts == Counts()


def test_fault_15_a_server_without_last_updated_is_known_by_content(tmp_path: Path) -> None:
    site = Site(tmp_path, dates=False, history=False)
    site.patient("a")
    assert site.sync().counts.stored == 4
    site.observe("a", 0, value=5)
    assert site.sync().counts == Counts(received=4, stored=1, identical=3)


@pytest.mark.parametrize("changes", ["ignored", "refused", "echoed"])
def test_fault_15_a_server_that_begins_to_ignore_last_updated_is_noticed(site: Site, changes: Any) -> None:
    site.sync()
    site.server.features.changes = changes
    site.observe("a", 0, value=1)
    report = site.sync()
    assert report.status == "ok"
    assert any("ignores _lastUpdated" in note for note in report.notes)
    assert site.cursor().state["changes.Observation"] == "no"
    assert '"valueInteger": 1' in site.current()["Observation", "o-a-0"]


def test_a_history_that_is_too_long_is_not_read(site: Site) -> None:
    site.limits["history"] = 2
    site.sync()
    site.server.delete("Observation", "o-a-0")
    for n in range(3):
        site.observe("b", n, value=1)
    report = site.sync()
    assert any("more than 2 entries" in note for note in report.notes)
    assert "o-a-0" not in site.ids("Observation")
    site.limits["history"] = 0
    site.sync()
    assert not any("_history" in each for each in site.asked())


def test_fault_13_a_window_that_expires_holds_the_time_of_its_type_alone(site: Site) -> None:
    site.limits["restarts"] = 0
    first = site.sync()
    assert first.status == "ok"
    before = site.cursor().state
    for n in range(4):  # two pages of the changes of a, and one of everything else
        site.observe("a", n, value=1)
    site.server.expired = 1
    report = site.sync()
    assert report.status == "partial"
    assert "expired again and again" in report.messages[0]
    after = site.cursor().state
    assert [kind for kind in TYPES if after[f"since.{kind}"] == before[f"since.{kind}"]] == ["Observation"]
    whole = site.sync()
    assert whole.status == "ok"
    assert site.ids("Observation") == ["o-a-0", "o-a-1", "o-a-2", "o-a-3", "o-b-0", "o-b-1", "o-c-0", "o-c-1"]
    assert all('"valueInteger": 1' in site.current()["Observation", f"o-a-{n}"] for n in range(4))


def test_fault_14_the_time_is_that_of_the_server_less_the_overlap(site: Site) -> None:
    site.limits["overlap"] = 60.0
    site.server.now = datetime(1999, 12, 31, 23, 59, 0, 500_000, tzinfo=UTC)  # a clock that is far off
    site.sync(after=timedelta(0))
    assert site.cursor().state["since.Patient"] == "1999-12-31T23:59:00+00:00"  # a Date has whole seconds
    site.sync()
    assert site.asked()[0] == "Condition/_history?_since=1999-12-31T23:58:00.000Z&_elements=id"


def test_fault_17_what_the_overlap_brings_again_converges(site: Site) -> None:
    site.sync()
    site.observe("a", 0, value=1)
    first = site.sync(after=timedelta(seconds=5))
    second = site.sync(after=timedelta(seconds=5))
    assert (first.counts.stored, second.counts.stored) == (1, 0)
    assert second.counts.identical == second.counts.received > 0


def test_fault_12_a_server_with_totals_that_sends_less_is_partial(site: Site) -> None:
    site.server.features.short = "Observation"
    report = site.sync()
    assert report.status == "partial"
    assert report.announced["Observation"] == 6
    assert report.messages[0] == (
        "Observation of patients 1 to 2: the server announced 4 resources, its pages held 1: the next run tries again"
    )
    assert "since.Observation" not in site.cursor().state


def test_fault_5_a_401_in_mid_sync_that_stays_stops_the_site_and_stores_nothing(site: Site) -> None:
    site.sync()
    before = site.cursor()
    site.observe("a", 0, value=1)
    site.server.faults.append(401)
    with pytest.raises(AuthenticationError, match="401"):
        site.sync()
    assert site.cursor() == before
    assert site.sync().counts.stored == 1


def test_a_poison_resource_is_not_taken_as_deleted_and_is_looked_at_again(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    site.patient("a")
    site.sync()
    body = site.server.versions["Observation", "o-a-0"][-1].body
    assert body is not None
    site.server.put("Observation", "o-a-0", subject=body["subject"], valueDecimal=float("nan"))
    report = site.sync()
    assert (report.status, report.counts.quarantined, report.removed) == ("ok", 1, {})
    weekly = [site.sync() for _ in range(7)]
    assert [report.removed for report in weekly] == [{}] * 7
    assert any("in quarantine" in note for report in weekly for note in report.notes)
    assert len(list(site.quarantine.entries("site"))) == 1
    site.observe("a", 0, value=2)
    for _ in range(8):
        site.sync()
    assert not list(site.quarantine.entries("site"))  # what is wrong no more is not kept for ever


def test_ids_that_nothing_brought_are_asked_for_in_the_next_night(tmp_path: Path) -> None:
    site = Site(tmp_path, history=False)
    site.patient("a")
    site.sync()
    site.observe("a", 5)
    site.server.versions["Observation", "o-a-5"][-1].updated -= timedelta(days=3)  # a commit that came late
    reports = [site.sync() for _ in range(8)]
    assert sum("asks for everything" in note for report in reports for note in report.notes) == 1
    assert "o-a-5" in site.ids("Observation")


def test_the_limit_of_a_site_ends_the_sync_as_partial(site: Site) -> None:
    source = SearchSource(
        BASE,
        CohortQuery("Condition", (("code", "lung"),)),
        TYPES,
        http_transport=site.server,
        limits=SearchLimits(streams=1),
    )
    report = sync_site(source, site.lake, "site", site.quarantine, max_bytes=400)
    assert report.status == "partial"
    assert "max_site_bytes" in report.messages[0]
    assert 0 < report.counts.stored < 12
    assert site.cursor().state == {}
    assert site.sync().status == "ok"
    assert len(site.current()) == 12


def test_several_streams_give_the_same(tmp_path: Path) -> None:
    found = []
    for streams in (1, 4):
        site = Site(tmp_path / str(streams))
        site.limits["streams"] = streams
        for n in range(9):
            site.patient(f"p{n}", observations=5)
        first = site.sync()
        site.observe("p3", 0, value=1)
        site.server.delete("Observation", "o-p4-1")
        found.append((first.counts, site.sync().counts, site.current()))
    assert found[0] == found[1]


def test_fault_5_a_401_in_one_of_several_streams_ends_the_others(site: Site) -> None:
    site.limits["streams"] = 4
    site.sync()
    site.observe("a", 0, value=1)
    site.server.refused = "Observation"
    with pytest.raises(AuthenticationError, match="401"):
        site.sync()
    site.server.refused = ""
    assert site.sync().counts.stored == 1


def test_a_server_that_goes_away_stores_what_came_and_goes_on_the_next_night(site: Site) -> None:
    site.sync()
    for n in range(2):
        site.observe("a", n, value=1)
    site.server.faults.extend([500] * 6)
    with pytest.raises(UnavailableError):  # not even the cohort query
        site.sync()
    assert site.sync().counts.stored == 2

"""One sync of a folder: accounting, versions, quarantine, messages."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import AccountingError, ServerError, SourceConfigError, SpoolError
from connectors.fhir.events import CompleteFor, Deleted, Expected, Problem, SourceEvent
from connectors.fhir.resource import Reason, Rejected, Resource, read_resource
from connectors.lake import reconcile
from connectors.lake.quarantine import Quarantine
from connectors.lake.reconcile import Reconciler
from connectors.lake.table import Cursor, Lake
from connectors.report import Counts, Progress, SyncReport
from connectors.sources.folder import FolderSource
from connectors.sync import sync_site


class Items:
    """A source that yields what it is given."""

    fingerprint = "items"
    server_time: str | None = "2024-01-01T00:00:00+00:00"

    def __init__(self, *items: SourceEvent | Exception) -> None:
        self.items = items
        self.whole = False
        self.asked: frozenset[str] | None = None
        self.state: dict[str, str] = {}

    def pull(self, previous: Cursor | None) -> Iterator[SourceEvent]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


def observation(id_: str, version: str | None = None, updated: str | None = None, value: int = 0) -> Resource:
    meta = {"versionId": version, "lastUpdated": updated}
    body: dict[str, Any] = {"resourceType": "Observation", "id": id_, "valueInteger": value}
    body["meta"] = {key: each for key, each in meta.items() if each}
    body["subject"] = {"reference": "Patient/p"}
    item = read_resource(json.dumps(body).encode(), "here")
    assert isinstance(item, Resource)
    return item


class Site:
    """A data folder with one site."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder / "lake")
        self.quarantine = Quarantine(folder / "quarantine")

    def sync(self, *items: SourceEvent | Exception) -> SyncReport:
        return sync_site(Items(*items), self.lake, "site", self.quarantine)

    def counts(self, *items: SourceEvent) -> tuple[int, int, int, int]:
        report = self.sync(*items)
        return report.counts.stored, report.counts.identical, report.counts.superseded, report.counts.quarantined

    def rows(self) -> list[tuple[str, str, int]]:
        names = ["id", "version_id", "sync"]
        found = [row for each in self.lake.rows("site", names) for row in each.to_pylist()]
        return sorted((row["id"], row["version_id"], row["sync"]) for row in found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


T1, T2, T3 = (f"2024-01-0{day}T00:00:00Z" for day in (1, 2, 3))


def test_a_second_sync_stores_nothing_and_makes_no_commit(site: Site) -> None:
    items = [observation("a", "1", T1), observation("b")]
    assert site.counts(*items) == (2, 0, 0, 0)
    assert site.counts(*items) == (0, 2, 0, 0)
    assert site.lake.version() == 1


def test_a_changed_resource_adds_a_version(site: Site) -> None:
    site.sync(observation("a", "1", T1), observation("b", "1", T1))
    assert site.counts(observation("a", "2", T2), observation("b", "1", T1)) == (1, 1, 0, 0)
    assert site.rows() == [("a", "1", 1), ("a", "2", 2), ("b", "1", 1)]


def test_an_older_version_is_superseded(site: Site) -> None:
    site.sync(observation("a", "2", T2))
    assert site.counts(observation("a", "1", T1)) == (0, 0, 1, 0)
    assert site.counts(observation("a")) == (0, 0, 1, 0)  # no lastUpdated is before all
    assert site.rows() == [("a", "2", 1)]


def test_a_version_without_a_time_in_the_lake_is_older_than_one_with_a_time(site: Site) -> None:
    assert site.counts(observation("a")) == (1, 0, 0, 0)
    assert site.counts(observation("a", "2", T1)) == (1, 0, 0, 0)
    assert site.counts(observation("a", "2", T1)) == (0, 1, 0, 0)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_several_versions_in_one_pull_the_newest_is_stored(site: Site, order: tuple[int, ...]) -> None:
    pull = [observation("a", str(n), f"2024-01-0{n}T00:00:00Z") for n in order]
    assert site.counts(*pull) == (1, 0, 2, 0)
    assert site.rows() == [("a", "3", 1)]
    assert site.counts(*pull) == (0, 1, 2, 0)


def test_of_equal_times_the_last_received_is_stored_and_stays(site: Site) -> None:
    pull = [observation("a", "1", T1, value=1), observation("a", "1", T1, value=2)]
    assert site.counts(*pull) == (1, 0, 1, 0)
    assert site.counts(*pull) == (0, 1, 1, 0)
    assert site.lake.version() == 1


def test_a_duplicate_is_identical(site: Site) -> None:
    assert site.counts(*[observation("a", "1", T1)] * 3) == (1, 2, 0, 0)


def test_a_server_without_times_that_goes_back_ends_where_it_is(site: Site) -> None:
    a, b = observation("x", value=1), observation("x", value=2)
    assert [site.counts(each)[0] for each in (a, b, a, a)] == [1, 1, 1, 0]
    by_sync = sorted(site.rows(), key=lambda row: row[2])
    assert by_sync == [("x", a.version_id, 1), ("x", b.version_id, 2), ("x", a.version_id, 3)]


def tombstones(site: Site) -> list[tuple[str, str | None, str | None]]:
    names = ["id", "version_id", "last_updated", "deleted"]
    found = [row for each in site.lake.rows("site", names) for row in each.to_pylist()]
    return [(row["id"], row["version_id"], row["last_updated"]) for row in found if row["deleted"]]


def test_an_undated_deletion_happened_after_everything_that_is_known(site: Site) -> None:
    site.sync(observation("a", "1", T2))
    undated = Deleted("Observation", "a", None, None, "here")
    report = site.sync(undated)
    assert (report.counts, report.deleted) == (Counts(received=1, stored=1), {"Observation": 1})
    assert tombstones(site) == [("a", "1", T2)], "the tombstone has the time of the version that it replaces"
    assert site.counts(undated) == (0, 1, 0, 0)
    assert site.counts(observation("a", "1", T2)) == (1, 0, 0, 0), "what comes back later takes its place"


def test_an_undated_deletion_comes_after_the_versions_of_its_own_sync(site: Site) -> None:
    site.sync(observation("a", "1", T1))
    report = site.sync(observation("a", "2", T3), Deleted("Observation", "a", "3", None, "here"))
    assert (report.counts, report.deleted) == (Counts(received=2, stored=1, superseded=1), {"Observation": 1})
    assert tombstones(site) == [("a", "3", T3)]


def test_a_deletion_that_is_older_than_the_current_version_is_superseded(site: Site) -> None:
    site.sync(observation("a", "2", T2))
    assert site.counts(Deleted("Observation", "a", None, T1, "here")) == (0, 0, 1, 0)
    assert tombstones(site) == []
    assert site.counts(Deleted("Observation", "a", None, T2, "here")) == (1, 0, 0, 0), "of the same time: it wins"


def test_a_deletion_that_was_superseded_does_not_show_that_the_resource_exists(site: Site) -> None:
    site.sync(observation("a", "2", T2))
    older, complete = Deleted("Observation", "a", None, T1, "here"), CompleteFor("Observation", frozenset({"p"}))
    report = site.sync(older, complete)
    assert (report.counts, report.removed) == (Counts(received=1, superseded=1), {"Observation": 1})


def test_a_deletion_that_was_stored_has_one_tombstone(site: Site) -> None:
    site.sync(observation("a", "2", T2))
    report = site.sync(Deleted("Observation", "a", "3", T3, "here"), CompleteFor("Observation", frozenset({"p"})))
    assert (report.deleted, report.removed) == ({"Observation": 1}, {})
    assert tombstones(site) == [("a", "3", T3)]


def test_a_deletion_of_what_the_lake_never_had_is_not_received(site: Site) -> None:
    assert site.sync(Deleted("Observation", "a", None, None, "here")).counts.received == 0


def test_two_sites_do_not_know_each_other(site: Site) -> None:
    site.sync(observation("a", "1", T1))
    report = sync_site(Items(observation("a", "1", T1)), site.lake, "other", site.quarantine)
    assert (report.counts.stored, report.sync_number) == (1, 2)


def test_the_report_and_the_cursor(site: Site) -> None:
    orphan = read_resource(b'{"resourceType":"Condition","id":"c"}', "here")
    outcome = read_resource(b'{"resourceType":"OperationOutcome"}', "here")
    report = site.sync(observation("a"), orphan, outcome, read_resource(b"nonsense", "there"))
    assert (report.site, report.status, report.messages, report.sync_number) == ("site", "ok", (), 1)
    assert report.counts == Counts(received=4, stored=2, quarantined=2)
    assert report.by_type == {
        "(none)": Counts(received=1, quarantined=1),
        "Condition": Counts(received=1, stored=1),
        "Observation": Counts(received=1, stored=1),
        "OperationOutcome": Counts(received=1, quarantined=1),
    }
    assert report.reasons == {"not-json": 1, "operation-outcome": 1}
    assert report.without_patient == {"Condition": 1}
    assert site.lake.cursor("site") == Cursor("items", True, "2024-01-01T00:00:00+00:00", 1)


def test_a_partial_pull_is_stored_but_does_not_move_the_time(site: Site) -> None:
    site.sync(observation("a"))
    later = Items(observation("b"), Problem("half of it is missing"), Problem("half of it is missing"))
    later.server_time = "2024-02-01T00:00:00+00:00"
    report = sync_site(later, site.lake, "site", site.quarantine)
    assert (report.status, report.counts.stored, report.messages) == ("partial", 1, ("half of it is missing",))
    assert site.lake.cursor("site") == Cursor("items", False, "2024-01-01T00:00:00+00:00", 2)


def test_an_error_stores_nothing_and_leaves_no_file(site: Site, tmp_path: Path) -> None:
    site.sync(observation("a"), read_resource(b"nonsense", "x"))
    before = site.quarantine.path("site").read_bytes()
    with pytest.raises(ServerError, match="gone"):
        site.sync(observation("b"), read_resource(b"other", "x"), ServerError("gone"))
    assert site.rows() == [("a", observation("a").version_id, 1)]
    assert site.quarantine.path("site").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "quarantine"]
    assert [path.name for path in (tmp_path / "quarantine").iterdir()] == ["site.ndjson"]
    failed = SyncReport.failed("site", ServerError("gone"))
    assert (failed.status, failed.counts.received, failed.messages) == ("failed", 0, ("gone",))


def test_progress(site: Site) -> None:
    told: list[Progress] = []
    items = [Expected("Observation", 501), *(observation(str(n)) for n in range(501))]
    sync_site(Items(*items), site.lake, "site", site.quarantine, told.append)
    assert told == [Progress("site", "Observation", n, 501) for n in (0, 500, 501)]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "x" * 65, ".hidden", "a\0"])
def test_a_site_name_that_cannot_be_a_file(site: Site, name: str) -> None:
    with pytest.raises(SourceConfigError, match="site name"):
        sync_site(Items(), site.lake, name, site.quarantine)


def test_counts_that_do_not_add_up_are_a_bug() -> None:
    with pytest.raises(AccountingError, match="3 received, but 2 accounted"):
        Counts(received=3, stored=1, identical=1).check("all")


def test_quarantine_holds_content_and_reason_and_is_the_same_every_night(site: Site) -> None:
    bad = [
        Rejected(Reason.NOT_JSON, "a.ndjson:3", b"hello"),
        Rejected(Reason.NOT_JSON, "b.ndjson:9", b"hello"),  # the same thing once more
        Rejected(Reason.INVALID_UTF8, "a.ndjson:4", b"\xff"),
        Rejected(Reason.UNREQUESTED_TYPE, "a.ndjson:5", b'{"resourceType":"Group"}', "Group"),
        Rejected(Reason.TOO_LARGE, "a.ndjson:6", b"x" * (2 << 20)),
    ]
    assert site.sync(*bad).counts.quarantined == 5
    first = site.quarantine.path("site").read_bytes()
    entries = list(site.quarantine.entries("site"))
    assert [(entry["reason"], entry["where"], entry["bytes"]) for entry in entries] == [
        ("not-json", "a.ndjson:3", 5),
        ("invalid-utf8", "a.ndjson:4", 1),
        ("type-not-asked-for", "a.ndjson:5", 24),
        ("too-large", "a.ndjson:6", 2 << 20),
    ]
    assert [entry.get("content", entry.get("content_base64")) for entry in entries[:3]] == [
        "hello",
        "/w==",
        None,
    ]
    assert len(entries[3]["content"]) == 1 << 20
    assert stat.S_IMODE(site.quarantine.path("site").stat().st_mode) == 0o600
    site.sync(*bad)
    assert site.quarantine.path("site").read_bytes() == first


def test_quarantine_of_a_partial_pull_adds_and_of_a_whole_one_replaces(site: Site) -> None:
    one, two = (Rejected(Reason.NOT_JSON, "x", content) for content in (b"one", b"two"))
    site.sync(one)
    site.sync(two, Problem("half"))
    assert [entry["content"] for entry in site.quarantine.entries("site")] == ["two", "one"]
    site.sync(two)
    assert [entry["content"] for entry in site.quarantine.entries("site")] == ["two"]
    site.sync(observation("a"))
    assert not site.quarantine.path("site").exists()


def test_a_folder_with_everything_that_can_be_wrong(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    lines = [
        b'{"resourceType":"Patient","id":"p","meta":{"lastUpdated":"2024-01-01T00:00:00Z"}}',
        b'{"resourceType":"Observation","id":"without"}',
        b'{"resourceType":"Observation","id":"\xff"}',
        b'{"resourceType":"Encounter","id":"e"}',
        b'{"resourceType":"Observation","id":"cut"',
    ]
    (folder / "all.ndjson").write_bytes(b"\n".join(lines))
    types = frozenset({"Patient", "Observation"})
    report = sync_site(FolderSource(folder, types), site.lake, "site", site.quarantine)
    assert report.status == "ok"
    assert report.counts == Counts(received=5, stored=2, quarantined=3)
    assert report.reasons == {"invalid-utf8": 1, "truncated": 1, "type-not-asked-for": 1}
    assert report.without_patient == {"Observation": 1}


def test_the_canary_of_a_patient_is_in_no_report(site: Site) -> None:
    canary = "Rossi-4711"
    bad = json.dumps({"resourceType": canary, "id": canary}).encode()
    report = site.sync(read_resource(bad, "here"), read_resource(bad[:-1], "here"), observation(canary))
    assert canary not in repr(report)


def reconciled(folder: Path, count: int) -> int:
    """Reconcile so many new resources; return how many are to be stored."""
    with Reconciler(Lake(folder / "lake"), "site") as reconciler:
        for number in range(count):
            reconciler.upsert(Resource("Patient", f"{number:060}", "1", T1, None, f"{number:064}", "{}"))
        reconciler.decide()
        return sum(batch.num_rows for batch in reconciler.batches(remove_missing=False))


def test_the_temporary_files_of_a_run_that_was_killed_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".sync-site").mkdir()
    (tmp_path / ".sync-site" / "left").write_text("ids of patients")
    assert reconciled(tmp_path, 10) == 10
    assert not (tmp_path / ".sync-site").exists()


def test_a_disk_that_takes_no_temporary_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MEMORY", "20MB")
    (tmp_path / ".sync-site").write_text("a file in the way")
    with pytest.raises(SpoolError, match="free disk space"):
        reconciled(tmp_path, 60_000)

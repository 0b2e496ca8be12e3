"""View tables: appended to by each run, current by version, built again for another view or another lake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from connectors.fhir.resource import Resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from mappers.build.incremental import FINGERPRINT, LAG, SYNC
from mappers.build.table_log import fold_log
from mappers.build.views import CompiledView, ViewReport, ViewTables, refresh_views
from mappers.engines.base import Engine
from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition

CURSOR = Cursor("test", complete=True)
GENDER = ViewDefinition.load(
    {
        "resourceType": "ViewDefinition",
        "name": "patient",
        "status": "active",
        "resource": "Patient",
        "select": [{"column": [{"name": "gender", "path": "gender", "type": "code"}]}],
    }
)


def patient(identifier: str, gender: str, version: str = "1", updated: str | None = None) -> Resource:
    text = json.dumps({"resourceType": "Patient", "id": identifier, "gender": gender})
    return Resource("Patient", identifier, version, updated, identifier, "d" * 64, text)


def sync(lake: Lake, *resources: Resource, site: str = "a") -> None:
    lake.append(site, [as_batch(list(resources))], CURSOR)


def delete(lake: Lake, resource: Resource) -> None:
    batch = as_batch([msgspec.structs.replace(resource, raw="")])
    deleted = batch.schema.get_field_index("deleted")
    lake.append("a", [batch.set_column(deleted, "deleted", pa.array([True]))], CURSOR)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


class Store:
    """View tables in a folder, of one view on one engine."""

    def __init__(self, folder: Path, engine: Engine, view: ViewDefinition) -> None:
        self.folder, self.engine = folder, engine
        self.view = CompiledView.of(engine, "patient", view)
        self.tables: ViewTables | None = None
        self.told: list[str] = []

    def refresh(self, lake: Lake) -> list[ViewReport]:
        self.tables = refresh_views(self.folder, lake.snapshot(), {"patient": self.view}, self.engine, self.told.append)
        return list(self.tables.reports)

    def current_rows(self) -> list[tuple[str, str, str]]:
        """(site, id, gender) of the current rows after the last refresh."""
        assert self.tables is not None
        self.tables.register(self.engine)
        rows = self.engine.frame(self.view.current(self.view.all_rows)).to_dict("records")
        return sorted((row["site"], row["id"], row["gender"]) for row in rows)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with DuckDBEngine() as engine:
        yield Store(tmp_path / "views", engine, GENDER)


def table(tmp_path: Path) -> DeltaTable:
    (folder,) = (tmp_path / "views" / "patient").iterdir()
    return DeltaTable(str(folder))


def test_a_run_appends_what_is_new(store: Store, lake: Lake, tmp_path: Path) -> None:
    sync(lake, patient("p1", "female"), patient("p2", "male"))
    assert store.refresh(lake) == [ViewReport("patient", rows=2, rebuilt=True)]
    first = set(table(tmp_path).file_uris())
    sync(lake, patient("p3", "other"))
    assert store.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=False)]
    assert first < set(table(tmp_path).file_uris())
    assert store.current_rows() == [("a", "p1", "female"), ("a", "p2", "male"), ("a", "p3", "other")]


def test_each_view_that_is_built_from_scratch_is_told(store: Store, lake: Lake) -> None:
    sync(lake, patient("p1", "female"))
    store.refresh(lake)
    assert store.told == ["flattening patient: view 1 of 1"]
    sync(lake, patient("p2", "male"))
    store.refresh(lake)
    assert len(store.told) == 1


def observation(identifier: str) -> Resource:
    text = json.dumps({"resourceType": "Observation", "id": identifier})
    return Resource("Observation", identifier, "1", None, "p1", "d" * 64, text)


def test_fault_129_syncs_that_bring_a_table_nothing_are_noted_now_and_then(
    store: Store, lake: Lake, tmp_path: Path
) -> None:
    sync(lake, patient("p1", "female"))
    store.refresh(lake)
    version = table(tmp_path).version()
    for number in range(LAG - 1):
        sync(lake, observation(f"o{number}"))
    assert store.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=False)]
    assert table(tmp_path).version() == version
    sync(lake, observation("last"))
    store.refresh(lake)
    assert table(tmp_path).version() == version + 1
    assert table(tmp_path).transaction_version(SYNC) == LAG + 1
    sync(lake, patient("p2", "male"))
    assert store.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=False)]
    assert store.current_rows() == [("a", "p1", "female"), ("a", "p2", "male")]


@pytest.fixture
def grown(store: Store, lake: Lake, tmp_path: Path) -> Path:
    """The folder of a view table with five commits and three files."""
    for number in range(3):
        sync(lake, patient(f"p{number}", "female"))
        store.refresh(lake)
    return next((tmp_path / "views" / "patient").iterdir())


THREE = [("a", f"p{number}", "female") for number in range(3)]


def reopened(store: Store) -> Store:
    """The same folder, as the next run opens it."""
    return Store(store.folder, store.engine, GENDER)


def test_fault_129_a_log_is_folded_and_the_table_goes_on(store: Store, lake: Lake, grown: Path) -> None:
    files = sorted(each.name for each in grown.glob("*.parquet"))
    fold_log(grown, (SYNC, FINGERPRINT))
    assert sorted(path.name for path in grown.iterdir()) == sorted([*files, "_delta_log"])
    assert [path.suffix for path in sorted((grown / "_delta_log").iterdir())] == [".json", ".json"]
    again = reopened(store)
    assert again.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=False)]
    assert again.current_rows() == THREE
    sync(lake, patient("p0", "male", "2"))
    assert again.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=False)]
    assert again.current_rows() == [("a", "p0", "male"), *THREE[1:]]


def test_fault_129_a_kill_between_the_two_logs_loses_nothing(store: Store, lake: Lake, grown: Path) -> None:
    # As it is after the first step: the old log lies aside, the new one is not in place.
    shutil.copytree(grown / "_delta_log", grown / "old")
    fold_log(grown, (SYNC, FINGERPRINT))
    (grown / ".log").mkdir()
    (grown / "old").rename(grown / ".log" / "old")
    (grown / "_delta_log").rename(grown / ".log" / "_delta_log")
    again = reopened(store)
    assert again.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=False)]
    assert again.current_rows() == THREE
    assert not (grown / ".log").exists()


def test_fault_129_a_kill_before_the_new_log_is_whole_leaves_the_old(store: Store, lake: Lake, grown: Path) -> None:
    log = sorted((grown / "_delta_log").iterdir())
    (grown / ".log" / "_delta_log").mkdir(parents=True)
    (grown / ".log" / "_delta_log" / log[0].name).write_text("{")
    again = reopened(store)
    assert again.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=False)]
    assert sorted((grown / "_delta_log").iterdir()) == log
    assert not (grown / ".log").exists()


def test_without_new_syncs_nothing_is_written(store: Store, lake: Lake, tmp_path: Path) -> None:
    sync(lake, patient("p1", "female"))
    store.refresh(lake)
    version = table(tmp_path).version()
    assert store.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=False)]
    assert table(tmp_path).version() == version


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (("1", "2024-01-01T00:00:00Z"), ("2", "2024-01-02T00:00:00Z")),
        (("2", "2024-01-01T23:00:00-02:00"), ("1", "2024-01-02T02:00:00Z")),  # instants, not texts
        (("1", None), ("2", "2024-01-01T00:00:00Z")),  # without an instant is oldest
        (("2", None), ("1", None)),  # then the later sync
    ],
)
def test_the_newest_version_is_current(
    older: tuple[str, str | None], newer: tuple[str, str | None], store: Store, lake: Lake
) -> None:
    sync(lake, patient("p1", "unknown", *older), patient("p2", "male"))
    sync(lake, patient("p1", "female", *newer))
    store.refresh(lake)
    assert store.current_rows() == [("a", "p1", "female"), ("a", "p2", "male")]


def test_an_older_version_that_comes_later_is_not_current(store: Store, lake: Lake) -> None:
    sync(lake, patient("p1", "female", "2", "2024-01-02T00:00:00Z"))
    sync(lake, patient("p1", "unknown", "1", "2024-01-01T00:00:00Z"))
    store.refresh(lake)
    assert store.current_rows() == [("a", "p1", "female")]


def test_the_same_id_at_two_sites_is_two_resources(store: Store, lake: Lake) -> None:
    sync(lake, patient("p1", "female"))
    sync(lake, patient("p1", "male"), site="b")
    store.refresh(lake)
    assert store.current_rows() == [("a", "p1", "female"), ("b", "p1", "male")]


def test_a_deleted_resource_is_gone_and_comes_back(store: Store, lake: Lake) -> None:
    sync(lake, patient("p1", "female"), patient("p2", "male"))
    delete(lake, patient("p1", "", "2"))
    store.refresh(lake)
    assert store.current_rows() == [("a", "p2", "male")]
    sync(lake, patient("p1", "female", "3"))
    store.refresh(lake)
    assert store.current_rows() == [("a", "p1", "female"), ("a", "p2", "male")]


def test_the_patient_is_that_of_the_lake_unless_the_view_says_otherwise(tmp_path: Path, lake: Lake) -> None:
    sync(lake, msgspec.structs.replace(patient("p", "male"), patient="?identifier=urn:mrn|7"))
    gender = {"name": "gender", "path": "gender", "type": "code"}
    columns = [gender, {"name": "patient", "path": "id", "type": "id"}]
    own = ViewDefinition.load({"resource": "Patient", "select": [{"column": columns}]})
    views = {"own": own, "lake": GENDER}
    found = {}
    with DuckDBEngine() as engine:
        for name, view in views.items():
            store = Store(tmp_path / name, engine, view)
            store.refresh(lake)
            assert store.tables is not None
            store.tables.register(engine)
            [row] = engine.frame(store.view.current(store.view.all_rows)).to_dict("records")
            found[name] = row["patient"]
    assert found == {"own": "p", "lake": "?identifier=urn:mrn|7"}


def test_a_resource_with_a_modifier_is_set_aside(store: Store, lake: Lake) -> None:
    text = '{"resourceType":"Patient","id":"p","gender":"male","modifierExtension" : [{"url":"http://x.example/no"}]}'
    sync(lake, patient("q", "female"), msgspec.structs.replace(patient("p", "male"), raw=text))
    store.refresh(lake)
    assert store.current_rows() == [("a", "q", "female")]
    aside = store.engine.frame(store.view.set_aside(store.view.all_rows))
    assert list(aside["id"]) == ["p"]


def test_a_view_without_resources_is_empty(store: Store, lake: Lake) -> None:
    assert store.refresh(lake) == [ViewReport("patient", rows=0, rebuilt=True)]
    assert store.current_rows() == []


def test_a_changed_view_is_rebuilt_and_the_old_table_deleted(store: Store, lake: Lake, tmp_path: Path) -> None:
    sync(lake, patient("p1", "female"))
    store.refresh(lake)
    column = {"name": "gender", "path": "'?'", "type": "code"}
    changed = ViewDefinition.load({"name": "patient", "resource": "Patient", "select": [{"column": [column]}]})
    with DuckDBEngine() as engine:
        other = Store(tmp_path / "views", engine, changed)
        assert other.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=True)]
        assert other.current_rows() == [("a", "p1", "?")]
    assert len(list((tmp_path / "views" / "patient").iterdir())) == 1


def test_another_lake_in_the_same_place_is_read_from_its_start(store: Store, lake: Lake) -> None:
    sync(lake, patient("p1", "female"))
    store.refresh(lake)
    shutil.rmtree(lake.path)
    sync(lake, patient("p2", "male"))
    assert store.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=True)]
    assert store.current_rows() == [("a", "p2", "male")]


def test_an_older_copy_of_the_lake_is_read_from_its_start(store: Store, lake: Lake, tmp_path: Path) -> None:
    sync(lake, patient("p1", "female"))
    shutil.copytree(lake.path, tmp_path / "backup")
    sync(lake, patient("p1", "unknown", "2"))
    store.refresh(lake)
    shutil.rmtree(lake.path)
    shutil.move(tmp_path / "backup", lake.path)
    assert store.refresh(lake) == [ViewReport("patient", rows=1, rebuilt=True)]
    assert store.current_rows() == [("a", "p1", "female")]


@pytest.mark.parametrize("more", [0, 1], ids=["as far as before", "further than before"])
def test_an_older_copy_of_the_lake_that_went_on_is_read_from_its_start(
    store: Store, lake: Lake, tmp_path: Path, more: int
) -> None:
    sync(lake, patient("p1", "female"))
    shutil.copytree(lake.path, tmp_path / "backup")
    sync(lake, patient("p1", "unknown", "2"))
    store.refresh(lake)
    assert store.current_rows() == [("a", "p1", "unknown")]
    shutil.rmtree(lake.path)
    shutil.move(tmp_path / "backup", lake.path)
    sync(lake, patient("p2", "male"))
    for number in range(more):
        sync(lake, patient(f"q{number}", "other"))
    assert store.refresh(lake) == [ViewReport("patient", rows=2 + more, rebuilt=True)]
    assert store.current_rows() == [("a", "p1", "female"), ("a", "p2", "male"), ("a", "q0", "other")][: 2 + more]

"""A data folder that is never tidied grows with every night: what `periop maintain` and the nightly run do about it."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from connectors.errors import LakeError
from connectors.fhir.resource import Resource, read_resource
from connectors.lake.delta import named_files
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from connectors.lake.verify import refuse_damage
from mappers.build.views import CompiledView, refresh_views, table_folders
from mappers.engines.duckdb import DuckDBEngine
from mappers.view.shipped import load_views
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.settings import Maintain, Retention, Settings
from schedules.run.ledger import open_ledger
from schedules.run.maintain import Maintenance, maintain
from tests.nights import SITES, Hospital, charts, differing, fresh, mapped, settled

ROOT = Path(__file__).parents[2]
NIGHTS = 60
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def bodies() -> dict[tuple[str, str], dict[str, Any]]:
    return {(body["resourceType"], body["id"]): body for chart in charts() for body in chart.resources}


def tidied(settings: Settings, now: datetime = NOW, **changed: Any) -> Maintenance:
    """One run of the stage `maintain`, with the values of `[retention]` or of `[maintain]` in `changed`."""
    keys = Maintain.model_fields.keys() & changed.keys()
    kept = {name: value for name, value in changed.items() if name not in keys}
    update = {"maintain": Maintain(**{name: changed[name] for name in keys}), "retention": Retention(**kept)}
    with open_ledger(settings.ledger_file) as ledger:
        return maintain(settings.model_copy(update=update), ledger, now, lambda _: None)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def data_files(folder: Path) -> int:
    return sum("_delta_log" not in path.parts for path in folder.rglob("*.parquet"))


def commits(folder: Path) -> int:
    return sum(1 for path in folder.rglob("_delta_log/*.json"))


def rows_of(folder: Path) -> list[str]:
    """The rows of a view table, as it names them."""
    files = named_files(folder, DeltaTable(folder))
    return sorted(str(row) for file in files for row in pq.read_table(file).to_pylist())


def versions(lake: Lake) -> set[tuple[Any, ...]]:
    """Everything that the lake holds of every version."""
    names = ["id", "version_id", "last_updated", "patient", "sync", "deleted", "digest", "resource"]
    found = [row for site in SITES for batch in lake.rows(site, names) for row in batch.to_pylist()]
    assert len(found) == len({tuple(row.values()) for row in found})
    return {tuple(row.values()) for row in found}


def test_fault_95_sixty_nights_stay_as_small_as_one_and_increments_go_on(tmp_path: Path) -> None:
    """The year of nights in its short form; the whole year is `benchmarks/year_of_nights.py`."""
    hospital, chance = Hospital(tmp_path / "data"), random.Random(7)
    settings = settled(hospital.data)
    for site in SITES:
        hospital.night(site, bodies())
    assert mapped(settings).derived == 6
    names = sorted(bodies())
    # Three views alone, in one engine: to derive the cohort every night would take minutes.
    with DuckDBEngine(threads=1) as engine:
        shipped = load_views()
        views = {name: CompiledView.of(engine, name, shipped[name]) for name in ("patient", "condition", "observation")}
        largest = 0
        for night in range(NIGHTS):
            site, changed = SITES[night % 2], chance.sample(names, 3)
            hospital.night(site, {key: deepcopy(bodies()[key]) for key in changed if key in bodies()})
            refreshed = refresh_views(settings.data_dir / "views", hospital.lake.snapshot(), views, engine)
            assert not any(report.rebuilt for report in refreshed.reports)
            tidied(settings)
            largest = max(largest, data_files(settings.data_dir))
    # Each site and type of the lake, each view and each list has fewer than 4 tiny files.
    tables = 2 * len({kind for kind, _ in names}) + 2 * len(views)
    assert largest < 4 * tables
    assert commits(settings.data_dir) < 8 * (1 + 2 * len(views)) + len(shipped) * 2
    assert len([*(settings.data_dir / "views").rglob("*.checkpoint.parquet")]) == 0
    assert refuse_damage(hospital.lake) == len(hospital.lake.files())
    # An increment over all of it, and a map of everything from nothing, are one.
    hospital.night("milan", {names[0]: deepcopy(bodies()[names[0]])})
    report = mapped(settings)
    assert (report.views_rebuilt, report.derived) == (0, 6)
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew)
    assert differing(settings, anew) == []


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Two sites, mapped, with four small changes that were not mapped yet."""
    hospital = Hospital(tmp_path_factory.mktemp("grown") / "the data")  # with a blank, which an URI writes as %20
    for site in SITES:
        hospital.night(site, bodies())
    mapped(settled(hospital.data))
    key = ("Observation", "rich-observation-0")
    for text in ("one", "two", "three"):
        hospital.night("milan", {key: bodies()[key] | {"note": [{"text": text}]}})
    hospital.night("milan", {("Observation", "rich-observation-1"): None})
    return hospital


@pytest.fixture
def hospital(grown: Hospital, tmp_path: Path) -> Hospital:
    shutil.copytree(grown.data, tmp_path / "the data")
    return Hospital(tmp_path / "the data", dict(grown.held), grown.written)


def test_fault_95_a_map_goes_on_from_before_the_files_were_merged(hospital: Hospital, tmp_path: Path) -> None:
    settings = settled(hospital.data)
    before, files = versions(hospital.lake), data_files(hospital.lake.path)
    done = tidied(settings, small_files=2)
    assert done.merged > 0
    assert data_files(hospital.lake.path) < files
    assert versions(hospital.lake) == before
    assert refuse_damage(hospital.lake) == data_files(hospital.lake.path)
    # Every commit of the log went but those with cursors and fingerprints, and other readers see a table as before.
    assert DeltaTable(hospital.lake.path).to_pyarrow_dataset().count_rows() == len(before)
    for site, number in (("milan", 6), ("rome", 2)):
        assert hospital.lake.cursor(site) == Cursor("test", complete=True, sync_number=number)
    report = mapped(settings)
    assert (report.views_rebuilt, report.derived) == (0, 1)
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew)
    assert differing(settings, anew) == []
    again = tidied(settings, small_files=2)
    assert (again.unused, again.superseded) == (0, {})


def test_fault_95_a_lake_of_a_backup_that_went_on_is_still_noticed(hospital: Hospital, tmp_path: Path) -> None:
    shutil.copytree(hospital.lake.path, tmp_path / "backup")
    hospital.night("rome", {("Observation", "plain-observation-0"): None})
    settings = settled(hospital.data)
    mapped(settings)
    tidied(settings, small_files=2)
    shutil.rmtree(hospital.lake.path)
    shutil.copytree(tmp_path / "backup", hospital.lake.path)
    hospital.night("rome", {("Condition", "plain-condition-0"): None})
    tidied(settings, small_files=2)
    assert mapped(settings).views_rebuilt > 0
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew)
    assert differing(settings, anew) == []


# Imports once, then forks a maintenance for each line on stdin, which ends at its nth change of the disk. Not forked
# from the tests themselves: a fork of a process in which deltalake has begun its threads waits for them for ever.
PROGRAM = """
import os
import sys
from pathlib import Path
import mappers.build.compaction  # noqa: F401
from tests.functional.test_faults_growth import settled, tidied

CHANGES = ("open", "os.remove", "os.rename", "shutil.rmtree")

def end_at(nth):
    seen = []
    def hook(event, arguments):
        if event in CHANGES and "/data" in str(arguments[0]):
            seen.append(event)
            if len(seen) > nth:
                os._exit(9)
    sys.addaudithook(hook)
    return seen

for line in sys.stdin:
    data, nth = line.split()
    child = os.fork()
    if child == 0:
        seen = end_at(int(nth))
        tidied(settled(Path(data)), small_files=2)
        print(len(seen), flush=True)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
"""


def killed_at(data: Path, *moments: int) -> list[int]:
    """Run a maintenance for each moment, with a copy of `data` each beside it; return what the program printed."""
    lines = "".join(f"{shutil.copytree(data, data.with_name(f'data-{nth}'))} {nth}\n" for nth in moments)
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, input=lines, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return [int(each) for each in done.stdout.split()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fault_96_a_kill_at_any_moment_leaves_the_old_or_the_new_state(hospital: Hospital, tmp_path: Path) -> None:
    settings = settled(hospital.data)
    before = versions(hospital.lake)
    mapped(settings)
    steps, code = killed_at(hospital.data, 1_000_000)
    assert code == 0
    moments = random.Random(3).sample(range(steps), 8)
    assert killed_at(hospital.data, *moments) == [9] * len(moments)
    for nth in moments:
        killed = settled(tmp_path / f"data-{nth}")
        assert versions(Lake(killed.lake_dir)) == before
        tidied(killed, small_files=2)
        assert versions(Lake(killed.lake_dir)) == before
        for folder in table_folders(killed.data_dir / "views"):
            assert rows_of(folder) == rows_of(settings.data_dir / folder.relative_to(killed.data_dir))
        assert tidied(killed, small_files=2).unused == 0


def observations(lake: Lake) -> dict[tuple[str, int], bool]:
    """By id and sync number of the versions of two resources at milan: is it a deletion."""
    rows = [row for batch in lake.rows("milan", ["id", "sync", "deleted"]) for row in batch.to_pylist()]
    return {(row["id"], row["sync"]): row["deleted"] for row in rows if row["id"].startswith("rich-observation-")}


def synchronised(settings: Settings, number: int, days: int) -> None:
    """Let the ledger know that sync `number` was so many days before NOW."""
    with open_ledger(settings.ledger_file) as ledger, ledger.record("sync", lambda: NOW - timedelta(days=days)) as run:
        run.add_site_report("milan", {"ordinal": number})


def test_fault_98_superseded_versions_are_kept_for_as_long_as_is_set(hospital: Hospital, tmp_path: Path) -> None:
    settings = settled(hospital.data)
    mapped(settings)
    synchronised(settings, 4, days=31)
    synchronised(settings, 6, days=29)
    assert tidied(settings).superseded == {}  # without a number all are kept
    assert tidied(settings, superseded_days=32).superseded == {}  # that day nothing was superseded yet
    before = observations(hospital.lake)
    assert tidied(settings, superseded_days=30).superseded == {"Observation": 2}
    # As of sync 4 the first two of three versions were not current any more; the third was, and its successor is.
    assert before.keys() - observations(hospital.lake).keys() == {("rich-observation-0", 1), ("rich-observation-0", 3)}
    assert tidied(settings, superseded_days=28).superseded == {"Observation": 2}
    left = observations(hospital.lake)
    assert ("rich-observation-0", 5) in left
    assert left["rich-observation-1", 6]  # the deletion stays, its content is gone
    assert ("rich-observation-1", 1) not in left
    # Nothing of them is in a view table either, and the next map goes on.
    for folder in (settings.data_dir / "views" / "observation").iterdir():
        assert not [row for row in rows_of(folder) if "milan" in row and "'rich-observation-1'" in row]
    assert refuse_damage(hospital.lake) == len(hospital.lake.files())
    hospital.night("milan", {("Observation", "plain-observation-0"): None})
    report = mapped(settings)
    assert (report.views_rebuilt, report.derived) == (0, 1)
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew)
    assert differing(settings, anew) == []


def test_fault_98_what_was_mapped_before_versions_went_is_built_again(hospital: Hospital, tmp_path: Path) -> None:
    settings = settled(hospital.data)
    synchronised(settings, 6, days=31)
    assert tidied(settings, superseded_days=30).superseded == {"Observation": 4}
    # The lists of superseded versions end before these syncs, and could not learn of them any more.
    assert mapped(settings).views_rebuilt > 0
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew)
    assert differing(settings, anew) == []


def test_fault_99_a_damaged_file_is_not_written_anew(hospital: Hospital) -> None:
    """It would get new checksums, and nobody could tell any more that it is damaged."""
    path = next(Path(file.path) for file in hospital.lake.files("Observation") if file.rows > 1)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    files = sorted(hospital.lake.path.rglob("*.parquet"))
    with pytest.raises(LakeError, match=r"Observation of site milan.*put this file back from the backup"):
        tidied(settled(hospital.data), small_files=2)
    assert sorted(hospital.lake.path.rglob("*.parquet")) == files


def periop(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what a command prints with --json."""
    (folder / "periop.toml").write_text('[[sites]]\nname = "milan"\nkind = "folder"\npath = "fhir"\n')
    out, progress = io.StringIO(), io.StringIO()
    session = Session(out, progress, {}, lambda: datetime.now(UTC), lambda: 0.0, user=lambda: "admin")
    assert main(["--config", str(folder / "periop.toml"), *arguments, "--json"], session) == 0, progress.getvalue()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_fault_97_what_killed_runs_left_is_deleted(tmp_path: Path) -> None:
    data, old = tmp_path / "periop-data", 1_000_000_000
    left = ["spill/x", ".sync-milan/x", "cohort.new/x", "cohort.old/x", "releases/.new-3/x"]
    aged = ["quarantine/.milan.ndjson.0011.part", "crash.txt"]
    kept = ["quarantine/.rome.ndjson.0011.part", "quarantine/milan.ndjson", "releases/2/report.html", "explain.log"]
    for name in [*left, *aged, *kept]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text('{"key": "zz-canary"}\n')
    for name in aged:
        os.utime(data / name, (old, old))
    lake = Lake(data / "lake")
    patient = read_resource(b'{"resourceType": "Patient", "id": "p1"}', "test")
    assert isinstance(patient, Resource)
    lake.append("milan", [as_batch([patient])], Cursor("test", complete=True))
    orphan = data / "lake" / "site=milan" / "resource_type=Patient" / "part-0.zstd.parquet"
    orphan.write_bytes(Path(lake.files()[0].path).read_bytes())
    planned = periop(tmp_path, "maintain", "--dry-run")
    assert (planned["leftovers"], planned["unused"], planned["dry_run"]) == (6, 1, True)
    assert planned["expired"]["crash files"] == 1
    assert all((data / name).exists() for name in [*left, *aged, *kept])
    assert orphan.exists()
    done = periop(tmp_path, "maintain")
    assert (done["leftovers"], done["unused"], done["dry_run"]) == (6, 1, False)
    assert done["expired"]["crash files"] == 1
    assert done["bytes_after"] < done["bytes_before"]
    assert not [name for name in [*left, *aged] if (data / name).exists()]
    assert all((data / name).exists() for name in kept)
    assert not orphan.exists()
    assert len(lake.files()) == 1
    assert periop(tmp_path, "maintain")["leftovers"] == 0

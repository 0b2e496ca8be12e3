"""Every command with pipeline, clock and streams handed in: what is printed, filed and returned.

The stages of the pipeline are stand-ins with the results of one invented site; what they stand in for is tested by its
own tests and, whole, in `test_cli_whole.py`.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.disclosure.control import Released, release, release_after
from analytics.estimates.model import Cell, Interval, Proportion, Quantiles, Results
from analytics.provenance import NOT_GIVEN, Provenance
from analytics.results import dumps
from connectors.errors import AuthenticationError, ConnectorError, LakeError, UnavailableError
from connectors.fhir.resource import Resource, read_resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from connectors.report import Counts, Progress, SyncReport
from mappers.build.mapping import MapReport
from mappers.study import Study
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.settings import Settings
from schedules.release.following import Analysis
from schedules.release.internal import write_internal
from schedules.release.publish import PublishReport, plan_release, store_release
from schedules.release.published import PublishedFigures
from schedules.run.lock import run_lock
from schedules.run.pipeline import release_recorder

posix_only = pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
CONFIG = """
[[sites]]
name = "milan"
kind = "folder"
path = "milan"
[[sites]]
name = "rome"
kind = "folder"
path = "rome"
[disclosure]
min_cell = 0
[limits]
sites_at_a_time = 1
"""


def proportion(identity: str, x: int, n: int) -> Proportion:
    ci = Interval(0.95, "clopper-pearson", 28.1, 63.6)
    return Proportion(identity, f"Label of {identity}", "enrolled", identity, x, n, 100 * x / n, ci)


def results(proportions: Sequence[Proportion], provenance: Provenance | None = None) -> Results:
    n = max((p.n or 0 for p in proportions), default=33)
    age = Quantiles("baseline.age", "Age", "enrolled", 33, 62, 49, 74, "years", "type7")
    return Results(
        study="alneo",
        study_title="A trial",
        data_cutoff="2024-12-01",
        sites=("milan",),
        study_hash="0" * 64,
        population_sizes={"enrolled": n},
        proportions=tuple(proportions),
        quantiles=(age,),
        survival=(),
        flow=(),
        quality=(),
        provenance=provenance or NOT_GIVEN,
        # Of two figures, the smaller one is of patients of the larger one.
        cells=(
            Cell("n.enrolled", "n.enrolled", first(n)),
            *(Cell(p.id, p.id, first(p.x or 0), "n.enrolled") for p in proportions),
            Cell("baseline.age", "baseline.age", first(n), "n.enrolled"),
        ),
        beside={"baseline.age": (n // 4, n // 2, n // 4)},
        subjects=tuple(f"milan-{number}" for number in range(n)),
    )


def first(count: int) -> int:
    """Return the first patients, one bit each."""
    return (1 << count) - 1


def receive(data_dir: Path, site: str) -> None:
    """Put one resource of `site` into the lake."""
    # With its digest: what `maintain` merges is checked first.
    found = read_resource(b'{"resourceType": "Patient", "id": "a"}', "test")
    assert isinstance(found, Resource)
    Lake(data_dir / "lake").append(site, [as_batch([found])], Cursor("stand-in", complete=True))


class StandIn:
    """A pipeline that gives what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.partial: set[str] = set()
        self.silent: set[str] = set()
        self.proportions = [proportion("response.mpr", 15, 33)]
        self.at_map: Callable[[], None] = lambda: None
        self.data_cutoff = "2024-12-01"
        self.asked: list[Any] = []

    def sync_site(
        self,
        settings: Settings,
        site: str,
        *,
        full: bool,
        progress: Callable[[Progress], None],
        accept_loss: bool = False,
    ) -> SyncReport:
        self.asked.append(("sync", site, full))
        progress(Progress(site, "Patient", 2, 2))
        if site in self.errors:
            raise self.errors[site]
        if site not in self.silent:
            receive(settings.data_dir, site)
        counts = Counts(received=3, stored=2, quarantined=1)
        status, said = ("partial", ("page 2 expired",)) if site in self.partial else ("ok", ())
        return SyncReport(site, status, counts, {"Patient": counts}, {"not UTF-8": 1}, {}, said, 1)

    def verify_share(self, settings: Settings, day: int) -> int:
        return 0

    def map_lake(
        self, settings: Settings, study: Study, *, progress: Callable[[str], None], full: bool = False
    ) -> MapReport:
        self.asked.append("map --full" if full else "map")
        progress("building")
        self.at_map()
        settings.cohort_dir.mkdir(parents=True, exist_ok=True)
        row = {"SITEID": ["milan"], "DOMAIN": ["Condition"], "ISSUE": ["unknown code"], "COUNT": [2]}
        for name in ("adsl", "adrs", "adtte", "adae", "quality"):
            pq.write_table(pa.table(row), settings.cohort_dir / f"{name}.parquet")
        return MapReport(patients=40, enrolled=33, views_rebuilt=0, quality_rows=1, derived=2)

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, provenance: Provenance | None = None) -> Released:
        self.asked.append(("analyze", cohort_dir, min_cell, (provenance or NOT_GIVEN).sites_missing))
        return release(replace(results(self.proportions, provenance), data_cutoff=self.data_cutoff), min_cell)

    def analyze_for_release(
        self, cohort_dir: Path, study: Study, min_cell: int, provenance: Provenance | None = None
    ) -> Analysis:
        self.asked.append(("analyze", cohort_dir, min_cell, (provenance or NOT_GIVEN).sites_missing))
        estimated = replace(results(self.proportions, provenance), data_cutoff=self.data_cutoff)
        released, counted = release_after(estimated, min_cell)
        return Analysis(released, release(estimated, 0), estimated, counted)

    def write_internal(self, settings: Settings, study: Study, internal: Released) -> Path:
        return write_internal(internal, study, settings.internal_dir, PublishedFigures())

    def publish(
        self, settings: Settings, study: Study, analysis: Analysis, *, when: datetime, dry_run: bool
    ) -> PublishReport:
        recorder = release_recorder(settings, analysis, when)
        file = plan_release if dry_run else store_release
        return file(lambda n: {"results.json": lambda: dumps(analysis.released, n)}, settings.releases_dir, recorder)

    def deliver(self, settings: Settings, release: Path) -> None: ...


class Terminal:
    """Runs `periop` in a folder with a stand-in pipeline, and keeps what came out of the last command."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "periop.toml"
        self.data = folder / "periop-data"
        self.pipeline = StandIn()
        self.now = NOON
        self.out, self.err = "", ""
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def __call__(self, *arguments: str, stdout: io.TextIOBase | None = None) -> int:
        out, err = io.StringIO(), io.StringIO()
        session = Session(stdout or out, err, {}, lambda: self.now, lambda: 0.0, self.pipeline, sleep=self.sleep)  # type: ignore[arg-type]
        code = main(["--config", str(self.config), *arguments], session)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def json(self, *arguments: str) -> Any:
        self(*arguments, "--json")
        return json.loads(self.out)


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.config.write_text(CONFIG)
    return terminal


def test_fault_139_run_tries_again_only_if_it_is_told_to(periop: Terminal) -> None:
    periop.pipeline.errors = {name: UnavailableError(f"{name} is down") for name in ("milan", "rome")}
    assert periop("run") == 1
    assert periop.slept == []
    periop.now += timedelta(days=1)
    assert periop("run", "--retry") == 1
    assert periop.slept == [300, 600, 1200, 2400, 4800]
    assert periop.err.count("the run has failed and is tried again at") == 5
    assert "milan is down" in periop.err


def test_run_goes_the_whole_way(periop: Terminal) -> None:
    assert periop("run") == 0
    assert periop.pipeline.asked == [
        ("sync", "milan", False),
        ("sync", "rome", False),
        "map",
        ("analyze", periop.data / "cohort", 0, ()),
    ]
    for text in (
        "15/33",
        "45\u00a0%",
        "28–64\u00a0% (95\u00a0%\u00a0CI)",
        "62 (49–74) years",
        "Release 1 is written.",
    ):
        assert text in periop.out
    assert str(periop.data / "releases" / "1" / "report.html") in periop.out
    assert "building" in periop.err


def test_a_second_run_changes_nothing(periop: Terminal) -> None:
    periop("run")
    assert periop("run") == 0
    assert "Nothing changed: release 1 is still current." in periop.out


def test_the_published_figure_stands_beside_ours(periop: Terminal) -> None:
    periop.pipeline.proportions = [proportion("response.mpr", 15, 33), proportion("response.pcr", 5, 33)]
    periop("run")
    lines = {line.split()[2]: line for line in periop.out.splitlines() if "Label of" in line}
    assert "15/33 · 46" in lines["response.mpr"]
    assert lines["response.mpr"].rstrip().endswith("✓")
    assert lines["response.pcr"].rstrip().endswith("✗")


def test_the_grid_of_worst_grades_is_told_and_not_shown(periop: Terminal) -> None:
    periop("run")
    assert "worst grade" not in periop.out
    periop.pipeline.proportions.append(proportion("safety.adjuvant.asthenia.worst_grade_1", 20, 26))
    assert periop("run") == 0
    assert "Label of safety" not in periop.out
    assert periop.out.count("worst grade are not shown here: a release has them in report.html and results.json") == 1
    assert periop.json("analyze")["proportions"][1]["x"] == 20


def test_run_as_json(periop: Terminal) -> None:
    found = periop.json("run")
    assert (found["exit_code"], found["release"], found["unchanged"], found["withheld"]) == (
        0,
        1,
        False,
        False,
    )
    assert [site["site"] for site in found["sites"]] == ["milan", "rome"]
    assert found["map"] == {"patients": 40, "enrolled": 33, "views_rebuilt": 0, "quality_rows": 1, "derived": 2}


def test_a_site_that_fails_is_missing_and_said(periop: Terminal) -> None:
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    assert periop("run") == 3
    assert periop.pipeline.asked[-1] == ("analyze", periop.data / "cohort", 0, ("rome",))
    assert "rome has never been read: no figure includes its patients." in periop.out
    results_json = json.loads((periop.data / "releases" / "1" / "results.json").read_bytes())
    assert results_json["sites_missing"] == ["rome"]
    periop.pipeline.errors.clear()
    assert periop("run") == 0


def test_a_site_that_is_incomplete_counts_as_missing(periop: Terminal) -> None:
    periop.pipeline.partial.add("rome")
    found = periop.json("run")
    assert (found["exit_code"], found["sites_missing"]) == (3, ["rome"])


@pytest.mark.parametrize(
    ("rome", "code", "said"),
    [
        (AuthenticationError("rome: 401"), 6, "check the secrets"),
        (UnavailableError("rome: no answer"), 1, "no site could be synchronised, and there is no release yet"),
    ],
)
def test_no_site_at_all(periop: Terminal, rome: ConnectorError, code: int, said: str) -> None:
    periop.pipeline.errors = {"milan": AuthenticationError("milan: 401"), "rome": rome}
    assert periop("run") == code
    assert "map" not in periop.pipeline.asked
    assert said in periop.err
    assert "Traceback" not in periop.err
    assert periop.out == ""
    assert [site["status"] for site in periop.json("status")["sites"]] == ["failed", "failed"]


def test_the_last_release_stands_when_there_is_one(periop: Terminal) -> None:
    periop("run")
    periop.pipeline.errors = {name: UnavailableError(name) for name in ("milan", "rome")}
    assert periop("run") == 1
    assert "no site could be synchronised, so the last release is still current" in periop.err


def test_one_site_that_refuses_credentials_is_partial_among_others_and_6_alone(periop: Terminal) -> None:
    periop.pipeline.errors["rome"] = AuthenticationError("rome: 401")
    assert periop("sync") == 3
    assert periop("sync", "rome") == 6
    assert periop("sync", "milan") == 0


def test_a_fault_of_this_machine_ends_the_run(periop: Terminal) -> None:
    periop.pipeline.errors["milan"] = LakeError("the lake is damaged: restore it")
    assert periop("sync") == 1
    assert periop.err.endswith("periop: the lake is damaged: restore it\n")


def test_nothing_is_published_when_all_is_suppressed(periop: Terminal) -> None:
    periop.config.write_text(CONFIG.replace("min_cell = 0", "min_cell = 11"))
    periop.pipeline.proportions = [proportion("response.mpr", 3, 5)]
    periop.pipeline.analyze = all_suppressed  # type: ignore[method-assign]
    assert periop("run") == 5
    assert "no release was written" in periop.out
    assert not (periop.data / "releases").exists()
    assert periop.json("run")["withheld"] is True


def all_suppressed(cohort_dir: Path, study: Study, min_cell: int, provenance: Provenance | None = None) -> Released:
    found = results([proportion("response.mpr", 3, 5)])
    return release(Results(**{**vars(found), "quantiles": (), "population_sizes": {"enrolled": 5}}), min_cell)


def test_sync_tells_what_became_of_everything(periop: Terminal) -> None:
    assert periop("sync", "milan", "--full") == 0
    assert periop.pipeline.asked == [("sync", "milan", True)]
    assert "1 × not UTF-8" in periop.out
    (site,) = periop.json("sync", "milan")["sites"]
    assert site["counts"] == {"received": 3, "stored": 2, "identical": 0, "superseded": 0, "quarantined": 1}


def test_map_before_any_sync_says_to_run_sync(periop: Terminal) -> None:
    assert periop("map") == 1
    assert "lake: holds no resource of any configured site yet; run `periop sync`" in periop.err
    assert "map" not in periop.pipeline.asked
    receive(periop.data, "turin")  # not configured
    assert periop("map") == 1


def test_a_run_in_which_no_site_sends_anything_maps_nothing(periop: Terminal) -> None:
    periop.pipeline.silent = {"milan", "rome"}
    assert periop("run") == 1
    assert "holds no resource of any configured site yet" in periop.err
    assert periop.pipeline.asked == [("sync", "milan", False), ("sync", "rome", False)]
    periop.pipeline.silent = {"milan"}
    assert periop("run") == 0


@pytest.mark.parametrize("command", [["analyze"], ["publish"], ["publish", "--dry-run"]])
def test_before_any_map_the_advice_is_to_map(periop: Terminal, command: list[str]) -> None:
    periop("sync")
    assert periop(*command) == 1
    assert "cohort: holds no adsl, adrs, adtte, adae yet; run `periop map`" in periop.err
    periop("map")
    (periop.data / "cohort" / "adae.parquet").rename(periop.data / "cohort" / "adae.csv")
    assert periop(*command) == 0
    (periop.data / "cohort" / "adae.csv").unlink()
    assert periop(*command) == 1
    assert "holds no adae yet" in periop.err


def test_map_tells_the_cohort(periop: Terminal) -> None:
    periop("sync")
    assert periop("map") == 0
    assert "33 enrolled of 40 patients" in periop.out
    assert "2 of them derived again" in periop.out
    assert periop.json("map")["enrolled"] == 33
    assert periop("map", "--full") == 0
    assert periop.pipeline.asked[-3:] == ["map", "map", "map --full"]


def test_analyze_shows_and_files_nothing(periop: Terminal) -> None:
    periop("sync")
    periop("map")
    found = periop.json("analyze")
    assert found["schema"] == "periop.results/1"
    assert found["proportions"][0]["x"] == 15
    assert not (periop.data / "releases").exists()


def test_analyze_of_given_tables_needs_no_configuration(periop: Terminal) -> None:
    periop.config.unlink()
    tables = periop.folder / "tables"
    tables.mkdir()
    assert periop("analyze", "--cohort", str(tables)) in {0, 5}
    assert periop.pipeline.asked == [("analyze", tables, 11, ())]
    assert periop("analyze", "--cohort", str(tables), "--min-cell", "0", "--study", "alneo") == 0
    assert "15/33" in periop.out
    assert list(tables.iterdir()) == []


def test_min_cell_cannot_be_lowered_for_the_configured_sites(periop: Terminal) -> None:
    assert periop("analyze", "--min-cell", "0") == 2
    assert "disclosure.min_cell" in periop.err


def test_publish_files_what_is_there(periop: Terminal) -> None:
    periop("sync")
    periop("map")
    assert periop("publish", "--dry-run") == 0
    assert "This would be release 1" in periop.out
    assert not (periop.data / "releases").exists()
    assert periop.json("publish")["release"] == 1
    assert periop.json("publish")["unchanged"] is True


def test_publish_of_sites_that_were_never_synchronised_is_partial(periop: Terminal) -> None:
    periop("sync", "milan")
    periop("map")
    found = periop.json("publish")
    assert (found["exit_code"], found["sites_missing"], found["release"]) == (3, ["rome"], 1)


@posix_only
def test_the_data_folder_is_made_for_its_owner_alone_and_kept_so(periop: Terminal) -> None:
    periop("sync", "milan")
    assert stat.S_IMODE(periop.data.stat().st_mode) == 0o700
    periop.data.chmod(0o750)
    assert periop("run") == 0
    assert stat.S_IMODE(periop.data.stat().st_mode) == 0o700


def test_status_before_anything(periop: Terminal) -> None:
    assert periop("status") == 4
    assert "No release yet." in periop.out
    assert "periop run" in periop.out
    assert not periop.data.exists()


def test_status_tells_how_things_stand(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + timedelta(hours=26)
    assert periop("status") == 0
    for text in ("Release 1", "milan", "1 × not UTF-8", "unknown code", "2026-05-03T01:30:00Z"):
        assert text in periop.out
    found = periop.json("status")
    assert found["release"]["number"] == 1
    assert found["last_good_run"] == "2026-05-01T12:00:00+00:00"
    assert found["quality"] == [{"site": "milan", "domain": "Condition", "issue": "unknown code", "count": 2}]
    assert found["sites"][0]["reasons"] == {"not UTF-8": 1}
    assert found["runs"][0]["kind"] == "run"


def test_status_is_stale_after_26_hours(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + timedelta(hours=26, seconds=1)
    assert periop("status") == 4
    assert "STALE" in periop.out
    assert periop.json("status")["stale"] is True


def test_a_failed_run_does_not_hide_that_the_last_good_one_is_old(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + timedelta(hours=30)
    periop.pipeline.errors = {name: UnavailableError(name) for name in ("milan", "rome")}
    assert periop("run") == 1
    assert periop("status") == 4


def test_status_of_a_damaged_ledger_says_how_to_repair_it(periop: Terminal) -> None:
    periop("run")
    for file in periop.data.glob("runs.sqlite*"):
        file.write_bytes(b"\xff" * 8192)
    assert periop("status") == 1
    assert "is damaged" in periop.err
    assert "Traceback" not in periop.err


def test_a_run_that_was_killed_is_told(periop: Terminal) -> None:
    periop("sync")
    with sqlite3.connect(periop.data / "runs.sqlite") as database:
        database.execute("update runs set finished = null, status = 'running', exit_code = null")
    database.close()
    assert periop.json("status")["runs"][0]["status"] == "interrupted"
    periop("sync")
    assert [run["status"] for run in periop.json("status")["runs"]] == ["ok", "interrupted"]


@pytest.mark.parametrize("command", ["sync", "map", "analyze", "publish", "run", "serve"])
def test_two_at_once_are_refused(periop: Terminal, command: str) -> None:
    with run_lock(periop.data):
        assert periop(command) == 75
    assert "is running periop here" in periop.err
    assert periop.pipeline.asked == []


def test_an_interrupt_is_130_and_filed(periop: Terminal) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    periop.pipeline.at_map = interrupt
    assert periop("run") == 130
    assert "interrupted; completed work is kept" in periop.err
    assert periop.json("status")["runs"][0]["status"] == "interrupted"


def test_a_bug_shows_its_traceback_and_no_record(periop: Terminal) -> None:
    def bug() -> None:
        raise ValueError("-".join(("Canary", "Patient", "4711")))  # not as a whole in a line of the program

    periop.pipeline.at_map = bug
    assert periop("--verbose", "run") == 1
    assert "Traceback" in periop.err
    assert "builtins.ValueError" in periop.err
    assert "please report it" in periop.err
    assert "Canary-Patient-4711" not in periop.err + periop.out
    assert "Canary-Patient-4711" not in json.dumps(periop.json("status"))
    assert "Canary-Patient-4711" in (periop.data / "crash.txt").read_text()


def test_a_full_disk_is_a_sentence(periop: Terminal) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    periop.pipeline.at_map = full
    assert periop("run") == 1
    assert "the disk is full" in periop.err
    assert "Traceback" not in periop.err


class GoneReader(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_went_away_changes_nothing(periop: Terminal) -> None:
    periop.pipeline.partial.add("rome")
    assert periop("run", stdout=GoneReader()) == 3
    assert "publishing" in periop.err  # the steps, and no complaint
    assert "periop:" not in periop.err
    assert "Traceback" not in periop.err


def test_init_writes_a_file_that_works(periop: Terminal) -> None:
    periop.config.unlink()
    assert periop("init") == 0
    assert "periop run" in periop.out
    assert periop("run") == 0
    assert periop("init") == 2
    assert "--force" in periop.err
    periop.config.write_text("")
    assert periop("init", "--force") == 0
    assert "[[sites]]" in periop.config.read_text()


@pytest.mark.parametrize("command", ["sync", "map", "analyze", "publish", "run", "serve", "status"])
def test_no_configuration(periop: Terminal, command: str) -> None:
    periop.config.unlink()
    assert periop(command) == 2
    assert "run `periop init`" in periop.err
    assert periop.out == ""


def test_a_misspelt_key_is_named(periop: Terminal) -> None:
    periop.config.write_text(CONFIG.replace("min_cell", "min_cel"))
    assert periop("run") == 2
    said = "line 11: disclosure.min_cel: unknown key (did you mean 'min_cell'?); allowed: min_cell, note"
    assert periop.err == f"periop: {periop.config}: {said}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run", "--fast"], ["sync", "paris"], ["analyze", "--cohort", "nowhere"]],
)
def test_wrong_usage_is_2(periop: Terminal, arguments: list[str]) -> None:
    assert periop(*arguments) == 2
    assert periop.err

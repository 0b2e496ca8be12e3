"""A year of nights with a few changes each: how large the data folder becomes, and what a night costs, by its number.

Data folders of the invented cohort live through the same nights: with the step `maintain`, without it, and with
`superseded_days = 30`. A night changes a few resources in the folder that is their source. The nights that are measured
are `periop run` in a process of its own; those between them synchronise, bring the view tables up to date, maintain and
write into the run ledger, and leave out cohort and release, which are replaced as a whole every night and do not grow.
The last night is today, each one before it a day earlier.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.sources.folder import FolderSource
from connectors.sync import sync_site
from mappers.build.mapping import MapReport
from mappers.build.views import CompiledView, Views, refresh_views
from mappers.engines.duckdb import DuckDBEngine
from mappers.view.shipped import load_views
from schedules.config.settings import load_settings
from schedules.run.ledger import open_ledger
from schedules.run.maintain import maintain

SOURCE = Path(__file__).parents[1] / "fixtures" / "alneo"
FIRST = datetime(2027, 1, 1, 1, 30, tzinfo=UTC)  # after every version of the cohort, or the lake would keep those
CHANGES = 3  # resources that a night changes
TIMES = 1  # that a night of the table is measured, all but the last in copies of the folder
CONFIG = """
data_dir = "data"
[[sites]]
name = "milan"
kind = "folder"
path = "../fhir"
[disclosure]
min_cell = 0
[maintain]
nightly = {maintained}
[retention]
{retention}
"""
MODES = {"on": (True, ""), "off": (False, ""), "retention": (True, "superseded_days = 30")}
SIZES_EVERY = 30  # nights


class Source:
    """The NDJSON files of the site, of which each night changes some resources."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._chance = folder, random.Random(1)
        folder.mkdir()
        self._held: dict[str, list[dict[str, Any]]] = {
            file.name: [json.loads(line) for line in file.read_text().splitlines() if line]
            for file in sorted(SOURCE.glob("*.ndjson"))
        }
        for name in self._held:
            self._write(name)

    def change(self, night: int) -> None:
        """Give some resources a new version."""
        everything = [(name, place) for name, held in self._held.items() for place in range(len(held))]
        chosen = self._chance.sample(everything, CHANGES)
        for name, place in chosen:
            now = (FIRST + timedelta(days=night)).isoformat().replace("+00:00", "Z")
            meta = {"versionId": f"night-{night}", "lastUpdated": now}
            self._held[name][place] = {**self._held[name][place], "meta": meta, "language": f"x-{night}"}
        for name in {name for name, _ in chosen}:
            self._write(name)

    def _write(self, name: str) -> None:
        (self.folder / name).write_text("".join(json.dumps(each) + "\n" for each in self._held[name]))


class DataFolder:
    """A configuration and its data folder."""

    def __init__(self, folder: Path, mode: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.config, self.mode = folder, folder / "periop.toml", mode
        self.name, (self.maintained, retention) = "fresh" if folder.name == "fresh" else mode, MODES[mode]
        self.config.write_text(CONFIG.format(maintained=str(self.maintained).lower(), retention=retention))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def night(self, fhir: Path, views: Views, engine: DuckDBEngine, now: datetime) -> float:
        """A night without the cohort; how many seconds it took."""
        started, settings, lake = time.perf_counter(), load_settings(self.config), Lake(self.data / "lake")
        with open_ledger(settings.ledger_file) as ledger, ledger.record("run", lambda: now) as run:
            report = sync_site(FolderSource(fhir), lake, "milan", Quarantine(self.data / "quarantine"))
            assert report.counts.stored == CHANGES, report.counts
            run.add_site_report("milan", report.as_json())
            # As long as those of a run, whose cohort is not derived here.
            run.detail["map"] = dict.fromkeys(MapReport.__annotations__, 47)
            refresh_views(self.data / "views", lake.snapshot(), views, engine)
            if self.maintained:
                run.detail["maintain"] = maintain(settings, ledger, now, lambda _: None).as_json()
        return time.perf_counter() - started

    def run(self, command: str = "run") -> dict[str, float]:
        """`periop run` in a process of its own: wall time, processor time, and its peak memory."""
        started = time.perf_counter()
        program = [sys.executable, "-m", "schedules.cli", "--config", str(self.config), command]
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"
        wall = time.perf_counter() - started
        return {"wall": wall, "processor": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}

    def measured(self) -> dict[str, float]:
        """The same, by the medians of several copies that live through the same night, the last one in place."""
        found = []
        for nth in range(TIMES - 1):
            copy = DataFolder(self.folder.with_name(f"{self.folder.name}-{nth}"), self.mode)
            shutil.copytree(self.data, copy.data, symlinks=True)  # `releases/current` is one
            found.append(copy.run())
            shutil.rmtree(copy.folder)
        found.append(self.run())
        return {name: median(each[name] for each in found) for name in found[0]}

    def size(self) -> tuple[int, int, int]:
        """Files and bytes of the data folder, and bytes of its lake and view tables."""
        files = [path for path in self.data.rglob("*") if path.is_file() and not path.is_symlink()]
        sizes = {path.relative_to(self.data): path.lstat().st_size for path in files}
        tables = [
            size for path, size in sizes.items() if path.parts[0] in ("lake", "views") and ".compiled" not in path.parts
        ]
        return len(sizes), sum(sizes.values()), sum(tables)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, nargs="+", default=[1, 365], help="the nights that are measured")
    parser.add_argument("--maintain", choices=MODES, nargs="+", default=["on"], help="one data folder for each")
    given = parser.parse_args()
    last, today = max(given.nights), datetime.now(UTC)
    print("night maintain  files   MB tables MB    wall s  processor s  peak MB", flush=True)
    with tempfile.TemporaryDirectory() as temporary, DuckDBEngine(threads=1) as engine:
        root = Path(temporary)
        source = Source(root / "fhir")
        views = {name: CompiledView.of(engine, name, view) for name, view in load_views().items()}
        folders = [DataFolder(root / f"maintain-{mode}", mode) for mode in given.maintain]
        took: dict[str, list[float]] = {mode: [] for mode in given.maintain}
        for folder in folders:
            show(0, folder, folder.run())
        for night in range(1, last + 1):
            source.change(night)
            for folder in folders:
                if night in given.nights:
                    show(night, folder, folder.measured())
                    continue
                took[folder.mode].append(
                    folder.night(source.folder, views, engine, today - timedelta(days=last - night))
                )
                if night % SIZES_EVERY == 0:
                    show(night, folder, {"wall": median(took[folder.mode][-SIZES_EVERY:])})
                if night + 1 in given.nights:
                    folder.run("map")  # so that the next night derives the patients of one night
        fresh = DataFolder(root / "fresh", "on")
        fresh.run()
        show(0, fresh, fresh.run())


def show(night: int, folder: DataFolder, cost: dict[str, float]) -> None:
    """Print a line of the table; night 0 is a data folder as it was made, from what the source has then.

    Without processor time and memory it is of nights without cohort and release.
    """
    files, size, tables = folder.size()
    figures = f"{cost['wall']:9.2f}" + (f" {cost['processor']:12.2f} {cost['memory']:8.0f}" if "memory" in cost else "")
    print(f"{night:5} {folder.name:9} {files:6} {size / 1e6:6.2f} {tables / 1e6:6.2f} {figures}", flush=True)


if __name__ == "__main__":
    main()

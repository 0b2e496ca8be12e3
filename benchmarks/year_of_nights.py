"""A year of nights with a few changes each: how large the data folder becomes, and what a night costs, by its number.

Two data folders of the invented cohort live through the same nights, one with the step `maintain`, one without. A night
changes a few resources in the folder that is their source. The nights in the table are `periop run` in a process of its
own; those between them synchronise, bring the view tables up to date and maintain, and leave out cohort and release,
which are replaced as a whole every night and do not grow.
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
nightly = {}
"""


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

    def __init__(self, folder: Path, *, maintained: bool) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.config, self.maintained = folder, folder / "periop.toml", maintained
        self.config.write_text(CONFIG.format(str(maintained).lower()))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def night(self, fhir: Path, views: Views, engine: DuckDBEngine) -> None:
        """A night without the cohort."""
        lake = Lake(self.data / "lake")
        report = sync_site(FolderSource(fhir), lake, "milan", Quarantine(self.data / "quarantine"))
        assert report.counts.stored == CHANGES, report.counts
        refresh_views(self.data / "views", lake.snapshot(), views, engine)
        if self.maintained:
            settings = load_settings(self.config)
            with open_ledger(settings.ledger_file) as ledger:
                maintain(settings, ledger, datetime.now(UTC), lambda _: None)

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
            copy = DataFolder(self.folder.with_name(f"{self.folder.name}-{nth}"), maintained=self.maintained)
            shutil.copytree(self.data, copy.data, symlinks=True)  # `releases/current` is one
            found.append(copy.run())
            shutil.rmtree(copy.folder)
        found.append(self.run())
        return {name: median(each[name] for each in found) for name in found[0]}

    def size(self) -> tuple[int, int]:
        """Files and bytes of the data folder."""
        sizes = [path.lstat().st_size for path in self.data.rglob("*") if path.is_file() and not path.is_symlink()]
        return len(sizes), sum(sizes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, nargs="+", default=[1, 90, 180, 365], help="the nights that are measured")
    parser.add_argument("--maintain", choices=["on", "off", "both"], default="both")
    given = parser.parse_args()
    modes = {"on": [True], "off": [False], "both": [True, False]}[given.maintain]
    print("night maintain  files   MB     wall s  processor s  peak MB", flush=True)
    with tempfile.TemporaryDirectory() as temporary, DuckDBEngine(threads=1) as engine:
        root = Path(temporary)
        source = Source(root / "fhir")
        views = {name: CompiledView.of(engine, name, view) for name, view in load_views().items()}
        folders = [DataFolder(root / f"maintain-{mode}", maintained=mode) for mode in modes]
        for folder in folders:
            folder.run()
        for night in range(1, max(given.nights) + 1):
            source.change(night)
            for folder in folders:
                if night not in given.nights:
                    folder.night(source.folder, views, engine)
                    if night + 1 in given.nights:
                        folder.run("map")  # so that the next night derives the patients of one night
                    continue
                show(night, folder, folder.measured())
        fresh = DataFolder(root / "fresh", maintained=True)
        show(0, fresh, fresh.run())


def show(night: int, folder: DataFolder, cost: dict[str, float]) -> None:
    """Print a line of the table; night 0 is a data folder that was made now, from what the source has at the end."""
    files, size = folder.size()
    how = ("on" if folder.maintained else "off") if night else "fresh"
    figures = f"{cost['wall']:9.2f} {cost['processor']:12.2f} {cost['memory']:8.0f}"
    print(f"{night:5} {how:8} {files:6} {size / 1e6:6.2f} {figures}", flush=True)


if __name__ == "__main__":
    main()

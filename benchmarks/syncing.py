"""What a sync costs in memory and time: a million resources from a folder, and from a server that streams them.

    .venv/bin/python benchmarks/syncing.py [--resources 1000000]

Each sync is a process of its own. Its resident memory is read when each tenth of the resources has come, and its peak
at the end, after the commit; a second sync of the same folder, and a night of the server without changes, follow. The
server (benchmarks/streaming_server.py) is a process beside it on the loopback. benchmarks/README.md says what each line
means. The figures go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import Figures, Stopwatch, in_a_process, machine, peak_memory, resident_memory, show  # noqa: E402

if TYPE_CHECKING:
    from connectors.report import Progress
    from connectors.sources.base import Source

SERVER = Path(__file__).with_name("streaming_server.py")
MEMORY_TARGET = 600e6
FLAT = 1.1  # of the memory at the first tenth
NIGHT_TARGET = 2.0


def generate(folder: Path, count: int) -> Figures:
    """Write the resources of the streaming server as a bulk export would: NDJSON files, one type each."""
    from benchmarks.streaming_server import RESOURCES, everything, templates

    folder.mkdir()
    written = 0
    files = {}
    for kind, text in everything(templates(), count // RESOURCES):
        if kind not in files:
            files[kind] = (folder / f"{kind}.ndjson").open("w", encoding="utf-8")
        files[kind].write(f"{text}\n")
        written += 1
    for file in files.values():
        file.close()
    return {"resources": written, "bytes": sum(file.stat().st_size for file in folder.iterdir())}


def sync(folder: Path, source: Source, count: int) -> Figures:
    """One sync into the lake of this folder, with the resident memory at each tenth of `count` resources."""
    from connectors.lake.quarantine import Quarantine
    from connectors.lake.table import Lake
    from connectors.sync import sync_site

    received: dict[str, int] = {}
    tenths: list[int] = []

    def progress(now: Progress) -> None:
        received[now.resource_type] = now.received
        if sum(received.values()) * 10 >= (len(tenths) + 1) * count:
            tenths.append(resident_memory())

    spent = Stopwatch()
    report = sync_site(source, Lake(folder / "lake"), "hospital", Quarantine(folder / "quarantine"), progress)
    return {
        **spent.figures(),
        "tenths": tenths,
        "peak": peak_memory(),
        "status": report.status,
        "received": report.counts.received,
        "stored": report.counts.stored,
        "identical": report.counts.identical,
        "messages": report.messages,
    }


def sync_folder(folder: Path, count: int) -> Figures:
    """A sync of the generated files."""
    from connectors.sources.folder import FolderSource

    return sync(folder, FolderSource(folder / "fhir"), count)


def sync_server(folder: Path, count: int, url: str) -> Figures:
    """A sync of the cohort of the streaming server."""
    from benchmarks.streaming_server import COHORT, COHORT_CODE, PER_PATIENT
    from connectors.lake.table import Lake
    from connectors.sources.search.source import CohortQuery, SearchSource

    lake = Lake(folder / "lake")
    cohort = CohortQuery(COHORT, (("code", f"http://hl7.org/fhir/sid/icd-10-cm|{COHORT_CODE}"),))
    types = tuple(PER_PATIENT)
    return sync(folder, SearchSource(url, cohort, types, stored=lambda: lake.patients("hospital")), count)


@contextmanager
def server(patients: int) -> Iterator[str]:
    """The streaming server; its base URL."""
    command = [sys.executable, str(SERVER), str(patients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # at its end the server ends


def measure(folder: Path, count: int) -> list[tuple[str, str]]:
    """All measurements, as the lines of the table."""
    from benchmarks.streaming_server import RESOURCES

    for name in ("files", "http"):
        (folder / name).mkdir()
    made = in_a_process(__file__, "--generate", str(count), str(folder / "files" / "fhir"))
    runs = {
        name: in_a_process(__file__, "--measure", "folder", str(folder / "files"), str(made["resources"]))
        for name in ("a folder, first sync", "a folder, second sync")
    }
    with server(count // RESOURCES) as url:
        for name in ("a server, first sync", "a server, a night without changes"):
            words = ("--measure", "server", str(folder / "http"), str(made["resources"]), url)
            runs[name] = in_a_process(__file__, *words)
    average = made["bytes"] / made["resources"]
    lines = [("resources", f"{made['resources']:,}, {average:,.0f} bytes on average")]
    return lines + [line for name, run in runs.items() for line in described(name, run)]


def described(name: str, run: Figures) -> Iterator[tuple[str, str]]:
    """The lines of one sync."""
    if run["status"] != "ok":
        raise SystemExit(f"{name}: {run['status']}: {run['messages']}")
    rate = f"{run['received'] / run['seconds']:,.0f} resources/s, {run['received'] / run['processor']:,.0f} a second"
    night = "night" in name
    target = f" (target below {NIGHT_TARGET:g} s: {_met(run['seconds'] < NIGHT_TARGET)})" if night else ""
    yield name, f"{run['received']:,} received, {run['stored']:,} stored, {run['identical']:,} identical"
    yield "  time", f"{run['seconds']:.1f} s{target}, processor {run['processor']:.1f} s"
    if not night:
        yield "  rate", f"{rate} of processor time"
    peak = f"{run['peak'] / 1e6:,.0f} MB"
    yield "  peak memory", f"{peak} (target below {MEMORY_TARGET / 1e6:,.0f} MB: {_met(run['peak'] < MEMORY_TARGET)})"
    if len(run["tenths"]) > 1:
        shown = ", ".join(f"{memory / 1e6:,.0f}" for memory in run["tenths"])
        flat = max(run["tenths"]) <= FLAT * run["tenths"][0]
        yield "  memory at each tenth", f"{shown} MB (flat after the first: {_met(flat)})"


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"


def main() -> None:
    """Run the benchmark, or in a child process one part of it."""
    options = argparse.ArgumentParser(description="What a sync costs in memory and time.")
    options.add_argument("--resources", type=int, default=1_000_000, help="how many there are")
    options.add_argument("--generate", nargs=2, metavar=("COUNT", "FOLDER"), help=argparse.SUPPRESS)
    options.add_argument("--measure", nargs="+", metavar="WHAT", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.generate:
        print(json.dumps(generate(Path(given.generate[1]), int(given.generate[0]))))
    elif given.measure:
        what, folder, count, *url = given.measure
        run = sync_server(Path(folder), int(count), *url) if what == "server" else sync_folder(Path(folder), int(count))
        print(json.dumps(run))
    else:
        about = machine(("deltalake", "pyarrow", "httpx"))
        with tempfile.TemporaryDirectory(prefix="periop-benchmark-") as folder:
            show(about + measure(Path(folder), given.resources))


if __name__ == "__main__":
    main()

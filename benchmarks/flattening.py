"""What a view costs on an NDJSON file: periop against DuckDB reading the same columns, and against another runner.

    .venv/bin/python benchmarks/flattening.py [--resources 400000] [--rounds 5] [--seed 1] [--peer-resources 40000]

Seven columns of MedicationAdministrations: id, patient, status, RxNorm code, start, end, dose. Each measurement is a
process of its own with two threads; what is compared runs alternately, `--rounds` times, and the medians count. The
peer, sqlonfhir, is installed into an environment of its own in a temporary folder, which needs a package index;
`--peer-resources 0` leaves it out. benchmarks/README.md says what each line means. The figures go to stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import (  # noqa: E402
    Figures,
    Stopwatch,
    in_a_process,
    machine,
    middle,
    peak_memory,
    ratios,
    show,
    times,
)

PEER = "sqlonfhir==0.0.2"
PEER_PROGRAM = Path(__file__).with_name("flattening_peer.py")
RATIO_TARGET = 2
VIEW_RUN_TARGET = 2
HELP_TARGET = 0.3
THREADS = 2
PER_PATIENT = 100

VIEW = {
    "resourceType": "ViewDefinition",
    "status": "active",
    "resource": "MedicationAdministration",
    "select": [
        {
            "column": [
                {"name": "id", "path": "getResourceKey()"},
                {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
                {"name": "status", "path": "status"},
                {
                    "name": "code",
                    "path": "medication.ofType(CodeableConcept).coding"
                    ".where(system = 'http://www.nlm.nih.gov/research/umls/rxnorm').code.first()",
                },
                {"name": "start", "path": "effective.ofType(Period).start"},
                {"name": "end", "path": "effective.ofType(Period).end"},
                {"name": "dose", "path": "dosage.dose.value"},
            ]
        }
    ],
}
# What is imported at the first use comes before the clock: another view is run on nothing.
OTHER_VIEW = {"resource": "Patient", "select": [{"column": [{"name": "gender", "path": "gender"}]}]}
COLUMNS = {  # the elements that the view touches, and their types in DuckDB
    "id": "VARCHAR",
    "subject": "STRUCT(reference VARCHAR)",
    "status": "VARCHAR",
    "medicationCodeableConcept": "STRUCT(coding STRUCT(system VARCHAR, code VARCHAR)[])",
    "effectivePeriod": 'STRUCT("start" VARCHAR, "end" VARCHAR)',
    "dosage": "STRUCT(dose STRUCT(value DECIMAL(38, 18)))",
}


def generate(file: Path, count: int, seed: int) -> Figures:
    """Write MedicationAdministrations of about 1 kB each, always the same for the same seed."""
    from benchmarks.generate import administrations

    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{item.raw}\n" for item in islice(administrations(Random(seed), PER_PATIENT), count))
    return {"resources": count, "bytes": file.stat().st_size}


def bare(folder: Path) -> Figures:
    """DuckDB alone: the elements of the view as columns, fetched as they are."""
    return _bare(folder, lambda relation: relation.to_arrow_table())


def bare_frame(folder: Path) -> Figures:
    """The same as a pandas frame."""
    return _bare(folder, lambda relation: relation.df())


def _bare(folder: Path, fetch: Callable[[Any], Any]) -> Figures:
    import duckdb
    import pandas  # noqa: F401  what is imported at the first fetch is not measured
    import pyarrow  # noqa: F401

    with duckdb.connect(config={"threads": THREADS}) as con:
        spent = Stopwatch()
        rows = fetch(con.sql(f"SELECT * FROM read_ndjson('{folder}/doses.ndjson', columns = {COLUMNS!r})"))
        return {**spent.figures(), "rows": len(rows), "peak": peak_memory()}


def view(folder: Path) -> Figures:
    """periop: compile the view and run it, fetched as Arrow columns."""
    import pandas  # noqa: F401

    from mappers.engines.duckdb import DuckDBEngine
    from mappers.view.runner import ViewDefinition, run_view, view_table

    with DuckDBEngine(threads=THREADS) as engine:
        run_view(ViewDefinition.load(OTHER_VIEW), [], engine)
        spent = Stopwatch()
        definition = ViewDefinition.load(VIEW)
        file = folder / "doses.ndjson"
        rows = engine.con.to_pyarrow(view_table(definition, engine.read_ndjson(file)))
        return {**spent.figures(), "rows": len(rows), "peak": peak_memory()}


def view_frame(folder: Path) -> Figures:
    """periop: `run_view`, which gives a pandas frame."""
    import pandas  # noqa: F401

    from mappers.engines.duckdb import DuckDBEngine
    from mappers.view.runner import ViewDefinition, run_view

    with DuckDBEngine(threads=THREADS) as engine:
        run_view(ViewDefinition.load(OTHER_VIEW), [], engine)
        spent = Stopwatch()
        rows = run_view(ViewDefinition.load(VIEW), folder / "doses.ndjson", engine)
        return {**spent.figures(), "rows": len(rows), "peak": peak_memory()}


def view_of_few(folder: Path) -> Figures:
    """periop: `run_view` on what the peer reads, with a digest of the rows to compare."""
    from mappers.view.runner import ViewDefinition, run_view

    spent = Stopwatch()
    frame = run_view(ViewDefinition.load(VIEW), folder / "few.ndjson")
    figures = spent.figures()
    frame["dose"] = frame["dose"].astype(float)
    digest = hashlib.sha256(json.dumps(frame.to_numpy().tolist()).encode()).hexdigest()
    return {**figures, "rows": len(frame), "digest": digest, "peak": peak_memory()}


MEASUREMENTS: dict[str, Callable[[Path], Figures]] = {
    "bare": bare,
    "view": view,
    "bare_frame": bare_frame,
    "view_frame": view_frame,
    "view_of_few": view_of_few,
}


def command(*words: str) -> Figures:
    """One run of `periop` as a user starts it: its time from start to end."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("periop"), *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - wall, "processor": spent}


def measure(folder: Path, count: int, few: int, seed: int, rounds: int) -> list[tuple[str, str]]:
    """All measurements on one generated file, as the lines of the table."""
    made = in_a_process(__file__, "--generate", str(count), str(seed), str(folder))
    names = ("bare", "view", "bare_frame", "view_frame")
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(in_a_process(__file__, "--measure", name, str(folder)))
    if {run["rows"] for done in runs.values() for run in done} != {count}:
        raise SystemExit("not every measurement read every resource: one of them is wrong")
    return [
        ("resources", f"{made['resources']:,}, {made['bytes'] / made['resources']:,.0f} bytes on average"),
        *compared("columns", runs["view"], runs["bare"]),
        *compared("frame", runs["view_frame"], runs["bare_frame"]),
        *(beside_the_peer(folder, few) if few else ()),
        *commands(folder, rounds),
    ]


def compared(what: str, own: list[Figures], other: list[Figures]) -> list[tuple[str, str]]:
    """A view, DuckDB alone, and their ratio."""
    return [
        (f"DuckDB reading alone, {what}", times(other)),
        (f"periop, {what}", times(own)),
        ("ratio", ratios(own, other, RATIO_TARGET)),
        ("peak memory", f"{_peak(own)}; DuckDB alone {_peak(other)}"),
    ]


def _peak(runs: list[Figures]) -> str:
    return f"{max(run['peak'] for run in runs) / 1e6:,.0f} MB"


def beside_the_peer(folder: Path, count: int) -> list[tuple[str, str]]:
    """The peer and periop on the first resources. Raises where they make other rows."""
    with (folder / "doses.ndjson").open("rb") as lines, (folder / "few.ndjson").open("wb") as few:
        few.writelines(islice(lines, count))
    python = install_peer(folder / "peer")
    (folder / "view.json").write_text(json.dumps(VIEW), encoding="utf-8")
    arguments = (str(folder / "view.json"), str(folder / "few.ndjson"), str(count))
    peer = [in_a_process(str(PEER_PROGRAM), *arguments, python=python)]
    own = [in_a_process(__file__, "--measure", "view_of_few", str(folder))]
    if peer[0]["digest"] != own[0]["digest"]:
        raise SystemExit("periop and the peer make different rows: one of them is wrong")
    faster = middle(peer, "processor") / middle(own, "processor")
    return [
        (f"{PEER}, {count:,} resources", f"{times(peer)}, peak {_peak(peer)}"),
        ("periop, the same", f"{times(own)}, peak {_peak(own)}; the same rows"),
        ("the peer needs", f"{faster:.0f} times the processor time"),
    ]


def install_peer(folder: Path) -> str:
    """Install the peer into an environment of its own; the path of its Python."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    return python


def commands(folder: Path, rounds: int) -> list[tuple[str, str]]:
    """The two commands that must answer at once."""
    few, definition = folder / "three.ndjson", folder / "view.json"
    with (folder / "doses.ndjson").open("rb") as lines:
        few.write_bytes(b"".join(islice(lines, 3)))
    definition.write_text(json.dumps(VIEW), encoding="utf-8")
    wanted = {
        "periop --help": (("--help",), HELP_TARGET),
        "periop view run, three lines": (("view", "run", str(definition), str(few)), VIEW_RUN_TARGET),
    }
    lines_of_table = []
    for name, (words, target) in wanted.items():
        command(*words)  # once for the cache of compiled modules
        runs = [command(*words) for _ in range(rounds)]
        met = "met" if middle(runs, "seconds") < target else "MISSED"
        lines_of_table.append((name, f"{times(runs)} (target below {target:g} s: {met})"))
    return lines_of_table


def main() -> None:
    """Run the benchmark, or in a child process one part of it."""
    options = argparse.ArgumentParser(description="What a view costs on an NDJSON file.")
    options.add_argument("--resources", type=int, default=400_000, help="how many to generate")
    options.add_argument("--peer-resources", type=int, default=40_000, help="how many the peer reads; 0: no peer")
    options.add_argument("--rounds", type=int, default=5, help="how often what is compared runs")
    options.add_argument("--seed", type=int, default=1, help="another seed, other resources")
    options.add_argument("--generate", nargs=3, metavar=("COUNT", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    options.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.generate:
        count, seed, folder = given.generate
        print(json.dumps(generate(Path(folder) / "doses.ndjson", int(count), int(seed))))
    elif given.measure:
        what, folder = given.measure
        print(json.dumps(MEASUREMENTS[what](Path(folder))))
    else:
        about = machine()
        with tempfile.TemporaryDirectory(prefix="periop-benchmark-") as folder:
            show(about + measure(Path(folder), given.resources, given.peer_resources, given.seed, given.rounds))


if __name__ == "__main__":
    main()

"""What the mapping costs: views against DuckDB reading the same elements, the whole `map`, and its peak memory.

    .venv/bin/python benchmarks/mapping.py [--resources 1000000] [--rounds 3] [--seed 1]

Everything is measured in one run on one generated lake, each measurement in a process of its own, so that the peak
memory is that of the measured thing alone. What is compared runs alternately, `--rounds` times; the medians count.
benchmarks/README.md says what each line means. The figures go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mappers.shape import Shape
    from mappers.viewdefinition import ViewDefinition

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

RATIO_TARGET = 2.0
MEMORY_TARGET = 1.5e9
BATCH = 100_000
CONFIG = """\
data_dir = "."
[[sites]]
name = "hospital"
kind = "folder"
path = "fhir"
"""

Figures = dict[str, Any]


def generate(folder: Path, count: int, seed: int) -> Figures:
    """Fill the lake, and write its resources as NDJSON for the second baseline."""
    import pyarrow.parquet as pq

    from benchmarks.generate import fill
    from connectors.lake import Lake

    lake = Lake(folder / "lake")
    fill(lake, count, seed)
    (folder / "fhir").mkdir()
    (folder / "periop.toml").write_text(CONFIG, encoding="utf-8")
    characters, types = 0, Counter[str]()
    for file in lake.files():
        types[file.resource_type] += file.rows
        with (folder / f"{file.resource_type}.ndjson").open("a", encoding="utf-8") as lines:
            for batch in pq.ParquetFile(file.path).iter_batches(columns=["resource"]):
                texts = batch.column(0).to_pylist()
                characters += sum(map(len, texts))
                lines.writelines(f"{text}\n" for text in texts)
    return {
        "resources": types.total(),
        "types": types,
        "characters": characters,
        "lake_bytes": sum(Path(file.path).stat().st_size for file in lake.files()),
    }


def baseline_parquet(folder: Path) -> Figures:
    """DuckDB alone: parse the touched elements of every view from the lake's files, and fetch them as columns."""
    from connectors.lake import Lake

    lake = Lake(folder / "lake")

    def query(resource_type: str, shape: Shape) -> str:
        columns = ", ".join(f"parsed['{name}'] AS \"{name}\"" for name in shape.children)
        paths = [file.path for file in lake.files(resource_type)]
        return (
            f"SELECT id, version_id, sync, {columns} FROM (SELECT id, version_id, sync, "
            f"from_json(resource, '{shape.literal()}') AS parsed FROM read_parquet({paths!r}))"
        )

    return _baseline(query)


def baseline_ndjson(folder: Path) -> Figures:
    """DuckDB alone, from NDJSON files: `read_ndjson` with the touched elements as explicit columns."""
    from ibis.backends.sql.datatypes import DuckDBType

    def query(resource_type: str, shape: Shape) -> str:
        columns = {name: DuckDBType.to_string(dtype) for name, dtype in shape.dtype().items()}
        return f"SELECT * FROM read_ndjson('{folder}/{resource_type}.ndjson', columns = {columns!r})"

    return _baseline(query)


def _baseline(query: Callable[[str, Shape], str]) -> Figures:
    from mappers.engine import DuckDBEngine
    from schedules.tables import load_views

    with DuckDBEngine() as engine:
        queries = [query(view.resource, touched(view)) for view in load_views().values()]
        spent = Stopwatch()
        rows = sum(batch.num_rows for query in queries for batch in engine.con.con.sql(query).to_arrow_reader(BATCH))
        return {**spent.figures(), "rows": rows}


def touched(view: ViewDefinition) -> Shape:
    """The shape of a view: the elements that its paths touch, with their types."""
    from mappers.collection import Scope
    from mappers.fhirpath import resource as focus_on
    from mappers.viewdefinition import compile_select_list

    focus = focus_on(view.resource, Scope())
    compile_select_list(view, focus)
    assert focus.shape is not None
    return focus.shape


def views(folder: Path) -> Figures:
    """periop: compile all views, map every resource, and commit the Delta tables, in a fresh folder."""
    from connectors.lake import Lake
    from mappers.engine import DuckDBEngine
    from schedules.tables import ViewStore, load_views

    lake = Lake(folder / "lake")
    lake.files()  # what is imported at the first look is not measured, as in the baselines
    target = folder / "views-alone"
    with DuckDBEngine(temp_directory=folder) as engine:
        spent = Stopwatch()
        reports = ViewStore(target, engine, load_views()).refresh(lake)
        figures = spent.figures()
    stored = sum(file.stat().st_size for file in target.rglob("*.parquet"))
    shutil.rmtree(target)
    rows = sum(report.rows for report in reports)
    return {**figures, "rows": rows, "views": len(reports), "stored": stored, "peak": peak_memory()}


def whole_map(folder: Path) -> Figures:
    """`periop map` on fresh folders: all views, the current state, and the cohort tables at every data cut."""
    from schedules.pipeline import Pipeline
    from schedules.settings import load_settings, load_study

    settings, study = load_settings(folder / "periop.toml"), load_study("alneo")
    begins: list[tuple[str, float]] = []
    spent = Stopwatch()
    report = Pipeline({}).map_lake(
        settings, study, progress=lambda what: begins.append((what, spent.figures()["seconds"]))
    )
    figures = spent.figures()
    ends = [*(begin for _, begin in begins[1:]), figures["seconds"]]
    stages = [(what, end - begin) for (what, begin), end in zip(begins, ends, strict=True)]
    return {
        **figures,
        "stages": stages,
        "patients": report.patients,
        "enrolled": report.enrolled,
        "peak": peak_memory(),
    }


class Stopwatch:
    """Wall time, and processor time of this process on all cores, since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def figures(self) -> Figures:
        wall, processor = self._started
        return {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}


def peak_memory() -> int:
    """The largest resident set of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


MEASUREMENTS: dict[str, Callable[[Path], Figures]] = {
    "parquet": baseline_parquet,
    "ndjson": baseline_ndjson,
    "views": views,
    "map": whole_map,
}


def in_a_process(*arguments: str) -> Figures:
    """The figures that this program prints when it is run with `arguments`."""
    print(f"  {' '.join(arguments[:2])}", file=sys.stderr)
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def machine() -> list[tuple[str, str]]:
    """Processor, memory, load and versions, as they are."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("processor", f"{processor()}, {cores} cores"),
        ("memory", f"{pages / 1e9:.1f} GB"),
        ("load before", ", ".join(f"{value:.2f}" for value in os.getloadavg())),
        ("python", platform.python_version()),
        *((name, version(name)) for name in ("duckdb", "ibis-framework", "deltalake", "pyarrow")),
    ]


def processor() -> str:
    """The model as Linux names it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def measure(folder: Path, count: int, seed: int, rounds: int) -> list[tuple[str, str]]:
    """All measurements on one generated lake, as the lines of the table."""
    made = in_a_process("--generate", str(count), str(seed), str(folder))
    runs: dict[str, list[Figures]] = {"parquet": [], "views": [], "ndjson": []}
    for _ in range(rounds):
        for name, done in runs.items():
            done.append(in_a_process("--measure", name, str(folder)))
    mapped = in_a_process("--measure", "map", str(folder))
    return [*generated(made), *compared(made, runs), *mapping(mapped)]


def generated(made: Figures) -> list[tuple[str, str]]:
    types = ", ".join(f"{name} {count:,}" for name, count in sorted(made["types"].items(), key=lambda item: -item[1]))
    return [
        ("resources", f"{made['resources']:,} ({types})"),
        ("their size", f"{made['characters'] / made['resources']:,.0f} characters on average"),
        ("the lake", f"{made['lake_bytes'] / 1e6:,.0f} MB"),
    ]


def compared(made: Figures, runs: dict[str, list[Figures]]) -> list[tuple[str, str]]:
    """The views, then each baseline with the ratios of the medians. Raises where the baselines read other rows."""
    if len({run["rows"] for name in ("parquet", "ndjson") for run in runs[name]}) != 1:
        raise SystemExit("the two baselines read different numbers of resources: one of them is wrong")
    view, seconds = runs["views"][0], _median(runs["views"], "seconds")
    return [
        ("views built", f"{view['views']} views, {view['rows']:,} rows, {view['stored'] / 1e6:,.0f} MB"),
        ("time", _times(runs["views"])),
        ("views per second", f"{view['views'] / seconds:.2f}"),
        ("view rows per second", f"{view['rows'] / seconds:,.0f}"),
        ("resources per second", f"{made['resources'] / seconds:,.0f}"),
        ("peak memory, views", f"{max(run['peak'] for run in runs['views']) / 1e6:,.0f} MB"),
        ("DuckDB reading alone, Parquet", _times(runs["parquet"])),
        ("ratio to it", _ratios(runs["views"], runs["parquet"], RATIO_TARGET)),
        ("DuckDB reading alone, NDJSON", _times(runs["ndjson"])),
        ("ratio to it", _ratios(runs["views"], runs["ndjson"])),
    ]


def _median(runs: list[Figures], figure: str) -> float:
    return float(median(run[figure] for run in runs))


def _times(runs: list[Figures]) -> str:
    rounds = ", ".join(f"{run['seconds']:.2f}" for run in runs)
    return f"{_median(runs, 'seconds'):.2f} s (rounds: {rounds}), processor {_median(runs, 'processor'):.2f} s"


def _ratios(own: list[Figures], other: list[Figures], target: float | None = None) -> str:
    wall, processor = (_median(own, figure) / _median(other, figure) for figure in ("seconds", "processor"))
    verdict = "" if target is None else f" (target at most {target:g}: {'met' if wall <= target else 'MISSED'})"
    return f"{wall:.2f}{verdict}, processor {processor:.2f}"


def mapping(mapped: Figures) -> list[tuple[str, str]]:
    met = "met" if mapped["peak"] < MEMORY_TARGET else "MISSED"
    stages = [(f"  {what}", f"{seconds:.1f} s") for what, seconds in mapped["stages"]]
    times = f"{mapped['seconds']:.1f} s, processor {mapped['processor']:.1f} s"
    return [
        ("whole map", f"{times} ({mapped['patients']:,} patients, {mapped['enrolled']:,} enrolled)"),
        *stages,
        ("peak memory, map", f"{mapped['peak'] / 1e6:,.0f} MB (target below {MEMORY_TARGET / 1e6:,.0f} MB: {met})"),
    ]


def main() -> None:
    """Run the benchmark, or in a child process one part of it."""
    options = argparse.ArgumentParser(description="What the mapping costs.")
    options.add_argument("--resources", type=int, default=1_000_000, help="how many to generate")
    options.add_argument("--rounds", type=int, default=3, help="how often what is compared runs")
    options.add_argument("--seed", type=int, default=1, help="another seed, other resources")
    options.add_argument("--generate", nargs=3, metavar=("COUNT", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    options.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.generate:
        count, seed, folder = given.generate
        print(json.dumps(generate(Path(folder), int(count), int(seed))))
    elif given.measure:
        what, folder = given.measure
        print(json.dumps(MEASUREMENTS[what](Path(folder))))
    else:
        about = machine()
        with tempfile.TemporaryDirectory(prefix="periop-benchmark-") as folder:
            lines = about + measure(Path(folder), given.resources, given.seed, given.rounds)
        print("\n".join(f"{name:<40}{value}" for name, value in lines))


if __name__ == "__main__":
    main()

"""What the mapping costs: views against DuckDB reading the same elements, the whole `map`, and its peak memory.

    .venv/bin/python benchmarks/mapping.py [--resources 1000000] [--rounds 3] [--seed 1] [--large 10000000]

Everything is measured in one run on one generated lake, each measurement in a process of its own, so that the peak
memory is that of the measured thing alone. What is compared runs alternately, `--rounds` times; the medians count.
benchmarks/README.md says what each line means. The figures go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.lake.table import Lake
    from mappers.fhir_model.shape import Shape
    from mappers.view.runner import ViewDefinition

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

RATIO_TARGET = 2.0
MEMORY_TARGET = 1.5e9
LARGE_MEMORY_TARGET = 2e9
RATE_TARGET = 0.75  # of the rate of the smaller lake
NIGHT_TARGET = 0.06  # of the time of a full map
MAPPED = ("views", "cohort")  # the folders that a map makes
NIGHT = 1_000  # one resource in so many is what a night brings
BATCH = 100_000
PREFIX = "periop-benchmark-"
CONFIG = """\
data_dir = "."
[[sites]]
name = "hospital"
kind = "folder"
path = "fhir"
"""


def generate_lake(folder: Path, count: int, seed: int) -> Figures:
    """Fill the lake."""
    from benchmarks.generate import fill
    from connectors.lake.table import Lake

    lake = Lake(folder / "lake")
    fill(lake, count, seed)
    (folder / "fhir").mkdir()
    (folder / "periop.toml").write_text(CONFIG, encoding="utf-8")
    types = Counter[str]()
    for file in lake.files():
        types[file.resource_type] += file.rows
    return {
        "resources": types.total(),
        "types": types,
        "lake_bytes": sum(Path(file.path).stat().st_size for file in lake.files()),
    }


def generate_night(folder: Path, count: int, patients: int, seed: int) -> Figures:
    """Add a night's sync to a lake of `count` resources: of so many patients, or where it is 0 of any."""
    from random import Random

    from benchmarks.generate import append_night
    from benchmarks.generate import patients as patients_in
    from connectors.lake.table import Lake

    random, everybody = Random(seed), range(patients_in(count))
    among = sorted(random.sample(everybody, patients) if patients else random.choices(everybody, k=count // NIGHT))
    append_night(Lake(folder / "lake"), count // NIGHT, among, seed)
    return {"patients": len(set(among)), "everybody": len(everybody), "resources": count // NIGHT}


def generate(folder: Path, count: int, seed: int) -> Figures:
    """Fill the lake, and write its resources as NDJSON for the second baseline."""
    import pyarrow.parquet as pq

    from connectors.lake.table import Lake

    figures = generate_lake(folder, count, seed)
    lake = Lake(folder / "lake")
    characters = 0
    for file in lake.files():
        with (folder / f"{file.resource_type}.ndjson").open("a", encoding="utf-8") as lines:
            for batch in pq.ParquetFile(file.path).iter_batches(columns=["resource"]):
                texts = batch.column(0).to_pylist()
                characters += sum(map(len, texts))
                lines.writelines(f"{text}\n" for text in texts)
    return {**figures, "characters": characters}


def baseline_parquet(folder: Path) -> Figures:
    """DuckDB alone: parse the touched elements of every view from the lake's files, and fetch them as columns."""
    from connectors.lake.table import Lake

    lake = Lake(folder / "lake")

    def query(resource_type: str, shape: Shape) -> str:
        columns = ", ".join(f"parsed['{name}'] AS \"{name}\"" for name in shape.children)
        paths = [file.path for file in lake.files(resource_type)]
        return (
            f"SELECT id, version_id, sync, {columns} FROM (SELECT id, version_id, sync, "
            f"from_json(resource, '{shape.literal()}') AS parsed FROM read_parquet({paths!r}))"
        )

    return _baseline(lake, query)


def baseline_ndjson(folder: Path) -> Figures:
    """DuckDB alone, from NDJSON files: `read_ndjson` with the touched elements as explicit columns."""
    from ibis.backends.sql.datatypes import DuckDBType

    from connectors.lake.table import Lake

    def query(resource_type: str, shape: Shape) -> str:
        columns = {name: DuckDBType.to_string(dtype) for name, dtype in shape.dtype().items()}
        return f"SELECT * FROM read_ndjson('{folder}/{resource_type}.ndjson', columns = {columns!r})"

    return _baseline(Lake(folder / "lake"), query)


def _baseline(lake: Lake, query: Callable[[str, Shape], str]) -> Figures:
    from mappers.engines.duckdb import DuckDBEngine
    from mappers.view.shipped import load_views

    with DuckDBEngine() as engine:
        # There are views of types that the generator does not make, as in most hospitals: nothing is read for them.
        wanted = [view for view in load_views().values() if lake.files(view.resource)]
        queries = [query(view.resource, touched(view)) for view in wanted]
        spent = Stopwatch()
        rows = sum(batch.num_rows for query in queries for batch in engine.con.con.sql(query).to_arrow_reader(BATCH))
        return {**spent.figures(), "rows": rows}


def touched(view: ViewDefinition) -> Shape:
    """The shape of a view: the elements that its paths touch, with their types."""
    from mappers.fhirpath.arrays import Scope
    from mappers.fhirpath.collection import resource as focus_on
    from mappers.view.runner import compile_select_list

    focus = focus_on(view.resource, Scope())
    compile_select_list(view, focus)
    assert focus.shape is not None
    return focus.shape


def views(folder: Path) -> Figures:
    """periop: compile all views, map every resource, and commit the Delta tables, in a fresh folder."""
    from connectors.lake.table import Lake
    from mappers.build.views import CompiledView, refresh_views
    from mappers.engines.duckdb import DuckDBEngine
    from mappers.view.shipped import load_views

    lake = Lake(folder / "lake")
    lake.files()  # what is imported at the first look is not measured, as in the baselines
    target = folder / "views-alone"
    with DuckDBEngine(temp_directory=folder) as engine:
        spent = Stopwatch()
        compiled = {name: CompiledView.of(engine, name, view) for name, view in load_views().items()}
        reports = refresh_views(target, lake.snapshot(), compiled, engine).reports
        figures = spent.figures()
    stored = sum(file.stat().st_size for file in target.rglob("*.parquet"))
    shutil.rmtree(target)
    rows = sum(report.rows for report in reports)
    return {**figures, "rows": rows, "views": len(reports), "stored": stored, "peak": peak_memory()}


def whole_map(folder: Path) -> Figures:
    """`periop map`: on fresh folders all views and the cohort tables at every data cut, after a night what changed."""

    import pandas  # noqa: F401  pyarrow imports it when it makes its first array
    import pyarrow.dataset  # noqa: F401  DuckDB imports it when it takes its first rows from Arrow

    import mappers.build.mapping  # noqa: F401
    from schedules.config.settings import load_settings, load_study
    from schedules.run.pipeline import Pipeline

    settings, study = load_settings(folder / "periop.toml"), load_study("alneo")
    begins: list[tuple[str, float]] = []
    spent = Stopwatch()
    report = Pipeline({}).map_lake(
        settings, study, progress=lambda what: begins.append((what, spent.figures()["seconds"]))
    )
    figures = spent.figures()
    ends = [*(begin for _, begin in begins[1:]), figures["seconds"]]
    stages: defaultdict[str, float] = defaultdict(float)
    for (what, begin), end in zip(begins, ends, strict=True):
        # The views are one stage; what follows the last of them, until a cohort begins, is the compilation of its SQL.
        stages["flattening" if what.startswith("flattening") else what] += end - begin
    return {
        **figures,
        "stages": list(stages.items()),
        "patients": report.patients,
        "enrolled": report.enrolled,
        "derived": report.derived,
        "peak": peak_memory(),
    }


MEASUREMENTS: dict[str, Callable[[Path], Figures]] = {
    "parquet": baseline_parquet,
    "ndjson": baseline_ndjson,
    "views": views,
    "map": whole_map,
}


def measure(folder: Path, count: int, seed: int, rounds: int) -> tuple[list[tuple[str, str]], float]:
    """All measurements on one generated lake, as the lines of the table; and the resources per second of the map."""
    made = in_a_process(__file__, "--generate", str(count), str(seed), str(folder))
    runs: dict[str, list[Figures]] = {"parquet": [], "views": [], "ndjson": []}
    for _ in range(rounds):
        for name, done in runs.items():
            done.append(in_a_process(__file__, "--measure", name, str(folder)))
    mapped = in_a_process(__file__, "--measure", "map", str(folder))
    rate = made["resources"] / mapped["seconds"]
    return [*generated(made), *compared(made, runs), *mapping([mapped], MEMORY_TARGET)], rate


def measure_large(folder: Path, count: int, seed: int, rounds: int, rate: float, share: float) -> list[tuple[str, str]]:
    """A full map of a large lake, against the `rate` of the smaller one, and a night's changes in two shapes.

    `share` is that of the patients whom the first night is about; the second is about any. A night takes seconds, so
    it is mapped `rounds` times; everything is mapped before the nights and after each.
    """
    made = in_a_process(__file__, "--generate-lake", str(count), str(seed), str(folder))
    maps = [in_a_process(__file__, "--measure", "map", str(folder))]
    clustered = max(1, round(share * _patients(count)))
    shapes = []
    for number, (what, patients) in enumerate((("a night, clustered", clustered), ("a night, scattered", 0))):
        brought = in_a_process(
            __file__, "--generate-night", str(count), str(patients), str(seed + number + 1), str(folder)
        )
        nights = [
            *(mapped_aside(folder) for _ in range(rounds - 1)),
            in_a_process(__file__, "--measure", "map", str(folder)),
        ]
        maps.append(mapped_aside(folder, *MAPPED))  # the speed of a machine may change in the meantime
        shapes.append((what, brought, nights, NIGHT_TARGET if patients else None))
    seconds = middle(maps, "seconds")
    relative = made["resources"] / seconds / rate
    met = "met" if relative >= RATE_TARGET else "MISSED"
    return [
        *generated(made),
        *mapping(maps, LARGE_MEMORY_TARGET),
        ("resources per second, map", f"{made['resources'] / seconds:,.0f}"),
        ("of the rate of the smaller lake", f"{relative:.2f} (target at least {RATE_TARGET:g}: {met})"),
        *(line for what, brought, nights, target in shapes for line in nightly(what, brought, nights, maps, target)),
    ]


def mapped_aside(folder: Path, *without: str) -> Figures:
    """`map` in a copy of a folder, `without` some of its folders, which leaves it as it is.

    `map` changes no file, but makes others.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder.parent) as beside:
        copy = Path(beside) / "copy"
        shutil.copytree(folder, copy, copy_function=os.link, ignore=shutil.ignore_patterns(*without))
        return in_a_process(__file__, "--measure", "map", str(copy))


def _patients(count: int) -> int:
    from benchmarks.generate import patients

    return patients(count)


def nightly(
    what: str, brought: Figures, nights: list[Figures], maps: list[Figures], target: float | None
) -> list[tuple[str, str]]:
    """The map of a night beside a full one, each done several times."""
    wall, processor = (middle(nights, figure) / middle(maps, figure) for figure in ("seconds", "processor"))
    verdict = "" if target is None else f" (target at most {target:.0%}: {'met' if wall <= target else 'MISSED'})"
    about = (
        f"{brought['resources']:,} resources about {brought['patients']:,} of {brought['everybody']:,} patients "
        f"({brought['patients'] / brought['everybody']:.2%}); {nights[0]['derived']:,} derived again"
    )
    return [
        (what, about),
        ("  map", times(nights)),
        ("  of a full map", f"{wall:.1%}{verdict}, processor {processor:.1%}"),
        ("  peak memory", f"{max(night['peak'] for night in nights) / 1e6:,.0f} MB"),
    ]


def generated(made: Figures) -> list[tuple[str, str]]:
    types = ", ".join(f"{name} {count:,}" for name, count in sorted(made["types"].items(), key=lambda item: -item[1]))
    lines = [("resources", f"{made['resources']:,} ({types})"), ("the lake", f"{made['lake_bytes'] / 1e6:,.0f} MB")]
    if "characters" in made:
        lines.append(("their size", f"{made['characters'] / made['resources']:,.0f} characters on average"))
    return lines


def compared(made: Figures, runs: dict[str, list[Figures]]) -> list[tuple[str, str]]:
    """The views, then each baseline with the ratios of the medians. Raises where the baselines read other rows."""
    if len({run["rows"] for name in ("parquet", "ndjson") for run in runs[name]}) != 1:
        raise SystemExit("the two baselines read different numbers of resources: one of them is wrong")
    view, seconds = runs["views"][0], middle(runs["views"], "seconds")
    return [
        ("views built", f"{view['views']} views, {view['rows']:,} rows, {view['stored'] / 1e6:,.0f} MB"),
        ("time", times(runs["views"])),
        ("views per second", f"{view['views'] / seconds:.2f}"),
        ("view rows per second", f"{view['rows'] / seconds:,.0f}"),
        ("resources per second", f"{made['resources'] / seconds:,.0f}"),
        ("peak memory, views", f"{max(run['peak'] for run in runs['views']) / 1e6:,.0f} MB"),
        ("DuckDB reading alone, Parquet", times(runs["parquet"])),
        ("ratio to it", ratios(runs["views"], runs["parquet"], RATIO_TARGET)),
        ("DuckDB reading alone, NDJSON", times(runs["ndjson"])),
        ("ratio to it", ratios(runs["views"], runs["ndjson"])),
    ]


def mapping(maps: list[Figures], target: float) -> list[tuple[str, str]]:
    """The map of everything, done once or several times; how long its stages took is that of the first."""
    first, peak = maps[0], max(mapped["peak"] for mapped in maps)
    met = "met" if peak < target else "MISSED"
    stages = [(f"  {what}", f"{seconds:.1f} s") for what, seconds in first["stages"]]
    return [
        ("whole map", f"{times(maps)} ({first['patients']:,} patients, {first['enrolled']:,} enrolled)"),
        *stages,
        ("peak memory, map", f"{peak / 1e6:,.0f} MB (target below {target / 1e6:,.0f} MB: {met})"),
    ]


def main() -> None:
    """Run the benchmark, or in a child process one part of it."""
    options = argparse.ArgumentParser(description="What the mapping costs.")
    options.add_argument("--resources", type=int, default=1_000_000, help="how many to generate")
    options.add_argument("--rounds", type=int, default=3, help="how often what is compared runs")
    options.add_argument("--seed", type=int, default=1, help="another seed, other resources")
    options.add_argument("--large", type=int, default=0, help="map a second lake of so many, and two nights' changes")
    options.add_argument(
        "--night-patients", type=float, default=0.001, help="the share of all patients whom a clustered night is about"
    )
    options.add_argument("--generate", nargs=3, metavar=("COUNT", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    options.add_argument("--generate-lake", nargs=3, metavar=("COUNT", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    options.add_argument(
        "--generate-night", nargs=4, metavar=("COUNT", "PATIENTS", "SEED", "FOLDER"), help=argparse.SUPPRESS
    )
    options.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.generate:
        count, seed, folder = given.generate
        print(json.dumps(generate(Path(folder), int(count), int(seed))))
    elif given.generate_lake:
        count, seed, folder = given.generate_lake
        print(json.dumps(generate_lake(Path(folder), int(count), int(seed))))
    elif given.generate_night:
        count, patients, seed, folder = given.generate_night
        print(json.dumps(generate_night(Path(folder), int(count), int(patients), int(seed))))
    elif given.measure:
        what, folder = given.measure
        print(json.dumps(MEASUREMENTS[what](Path(folder))))
    else:
        about = machine()
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            lines, rate = measure(Path(folder), given.resources, given.seed, given.rounds)
        if given.large:
            with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
                lines += measure_large(Path(folder), given.large, given.seed, given.rounds, rate, given.night_patients)
        show(about + lines)


if __name__ == "__main__":
    main()

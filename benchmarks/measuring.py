"""What the benchmarks measure with: a stopwatch, peak memory, processes of their own, medians, and the machine."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[str, Any]
PACKAGES = ("duckdb", "ibis-framework", "deltalake", "pyarrow")


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


def resident_memory() -> int:
    """The resident set of this process now, in bytes; where Linux does not tell, the largest one so far."""
    try:
        status = Path("/proc/self/statm").read_text(encoding="ascii")
    except OSError:
        return peak_memory()
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_a_process(program: str, *arguments: str, python: str = sys.executable) -> Figures:
    """The figures that a program of this folder prints when it is run with `arguments`."""
    print(f"  {' '.join(arguments[:2])}", file=sys.stderr)
    done = subprocess.run([python, program, *arguments], stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def machine(packages: Iterable[str] = PACKAGES) -> list[tuple[str, str]]:
    """Processor, memory, load and versions, as they are."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("processor", f"{processor()}, {cores} cores"),
        ("memory", f"{pages / 1e9:.1f} GB"),
        ("load before", ", ".join(f"{value:.2f}" for value in os.getloadavg())),
        ("python", platform.python_version()),
        *((name, version(name)) for name in packages),
    ]


def processor() -> str:
    """The model as Linux names it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def middle(runs: list[Figures], figure: str) -> float:
    """The median of a figure."""
    return float(median(run[figure] for run in runs))


def times(runs: list[Figures]) -> str:
    """The median of the wall time with all rounds, and that of the processor time."""
    rounds = ", ".join(f"{run['seconds']:.2f}" for run in runs)
    return f"{middle(runs, 'seconds'):.2f} s (rounds: {rounds}), processor {middle(runs, 'processor'):.2f} s"


def ratios(own: list[Figures], other: list[Figures], target: float | None = None) -> str:
    """The ratio of the medians, of wall time and of processor time."""
    wall, processor = (middle(own, figure) / middle(other, figure) for figure in ("seconds", "processor"))
    verdict = "" if target is None else f" (target at most {target:g}: {'met' if wall <= target else 'MISSED'})"
    return f"{wall:.2f}{verdict}, processor {processor:.2f}"


def likely_share(own: list[Figures], other: list[Figures]) -> str:
    """Between which two values the share of the other's rate, by the medians, lies in 95 of 100 cases, as the rounds
    scatter: a percentile bootstrap (Efron and Tibshirani 1993, 13.3), the same for the same rounds.
    """
    if len(own) == 1:
        return "not known from one round"
    import numpy as np
    from scipy.stats import bootstrap

    def share(mine: Any, others: Any, axis: int) -> Any:
        return np.median(others, axis=axis) / np.median(mine, axis=axis)

    rounds = [[run["seconds"] for run in runs] for runs in (own, other)]
    low, high = bootstrap(rounds, share, method="percentile", rng=1).confidence_interval
    return f"{low:.2f} to {high:.2f}, as the rounds scatter"


def show(lines: list[tuple[str, str]]) -> None:
    """Print the table of a benchmark."""
    print("\n".join(f"{name:<40}{value}" for name, value in lines))

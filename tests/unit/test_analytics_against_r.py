"""The figures against those of R (`tests/r`): curves, bands, medians, landmarks, follow-up, proportions, tests."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics.estimates import baseline
from analytics.estimates.design import p_value
from analytics.estimates.proportions import proportion_interval
from analytics.estimates.survival import Times, estimate_survival
from mappers.study import Design, QuantileSpec, SurvivalSpec

FOLDER = Path(__file__).parents[1] / "r"
LANDMARKS = (6.0, 12.0, 24.0)
TOLERANCE = 1e-9

Key = tuple[str, str, str, str]  # kind, case, name, at
Figures = dict[Key, float | None]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def read(name: str) -> list[dict[str, str]]:
    return rows_of((FOLDER / name).read_text(encoding="utf-8"))


def figures(text: str) -> Figures:
    """Return the values that R printed; those that are not there are None."""
    return {
        (row["kind"], row["case"], row["name"], row["at"]): float(row["value"]) if row["value"] else None
        for row in rows_of(text)
    }


OF_R = figures((FOLDER / "figures.csv").read_text(encoding="utf-8"))
CASES = tuple(dict.fromkeys(row["case"] for row in read("times.csv")))


def times_of(case: str) -> Times:
    rows = [row for row in read("times.csv") if row["case"] == case]
    return Times(np.array([float(row["months"]) for row in rows]), np.array([row["event"] == "1" for row in rows]))


def agree(found: float | None, expected: float | None) -> bool:
    return found is expected if found is None or expected is None else math.isclose(found, expected, abs_tol=TOLERANCE)


def at(value: float) -> str:
    return f"{value:.15g}"


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("case", CASES)
def test_a_curve_its_band_its_median_and_its_landmarks(case: str, level: float) -> None:
    times = times_of(case)
    spec = SurvivalSpec(id="x", label="x", paramcd="OS", ci_level=level, landmarks=LANDMARKS, min_at_risk=1)
    found = estimate_survival(spec, times)
    assert len(found.curve) - 1 == sum(key[:3] == ("curve", case, f"s {level}") for key in OF_R)
    for point in found.curve[1:]:
        assert agree(point.s, OF_R["curve", case, f"s {level}", at(point.t)])
        for name, limit in (("low", point.low), ("high", point.high)):
            expected = OF_R["curve", case, f"{name} {level}", at(point.t)]
            # Before the first event R has no limits, since the log(-log) of 1 has none; here they are 1 to 1.
            assert agree(limit, 1.0 if point.s == 1 and expected is None else expected), (point, name)
    assert agree(found.median, OF_R["median", case, f"median {level}", ""])
    assert found.ci is not None
    assert agree(found.ci.low, OF_R["median", case, f"low {level}", ""])
    assert agree(found.ci.high, OF_R["median", case, f"high {level}", ""])
    for mark in found.landmarks:
        assert mark.at_risk == OF_R["landmark", case, f"at_risk {level}", at(mark.t)]
        if mark.at_risk:
            assert agree(mark.s, OF_R["landmark", case, f"s {level}", at(mark.t)])


@pytest.mark.parametrize("case", [case for case in CASES if ("follow-up", case, "left 0.5", "") in OF_R])
def test_follow_up(case: str) -> None:
    """Quartiles of the reverse Kaplan-Meier curve as prodlim has it."""
    times = times_of(case)
    spec = QuantileSpec(id="x", label="x", paramcd="OS", unit="months", method="reverse_km")
    found = baseline.estimate_follow_up(spec, times, times.n)
    assert agree(found.q1, OF_R["follow-up", case, "left 0.75", ""])
    assert agree(found.median, OF_R["follow-up", case, "left 0.5", ""])
    assert agree(found.q3, OF_R["follow-up", case, "left 0.25", ""])


@pytest.mark.parametrize("row", read("counts.csv"), ids=lambda row: f"{row['x']} of {row['n']}")
def test_intervals_of_a_proportion_and_the_test_against_a_null_rate(row: dict[str, str]) -> None:
    x, n, level, null = int(row["x"]), int(row["n"]), float(row["level"]), float(row["null_rate"])
    for method in ("clopper-pearson", "wilson", "jeffreys"):
        ci = proportion_interval(x, n, level, method)
        for name, limit in (("low", ci.low), ("high", ci.high)):
            expected = OF_R["proportion", f"{x} of {n}", f"{method} {name}", at(level)]
            assert limit is not None
            assert agree(limit / 100, expected), (method, name)
    assert agree(p_value(Design(null_rate=null), x, n)[0], OF_R["test", f"{x} of {n}", "p", at(null)])


def test_quartiles() -> None:
    values = pd.DataFrame(read("values.csv"))
    for case, rows in values.groupby("case"):
        spec = QuantileSpec(id="x", label="x", variable="AGE", unit="years")
        found = baseline.estimate_quantiles(spec, rows["value"].astype(float), len(rows))
        for share, value in ((0.25, found.q1), (0.5, found.median), (0.75, found.q3)):
            assert agree(value, OF_R["quantile", str(case), "type 7", at(share)])


def test_the_committed_figures_are_those_of_r() -> None:
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is missing: install R with its packages survival and prodlim")
    ran = subprocess.run([rscript, str(FOLDER / "figures.R")], capture_output=True, text=True, timeout=300, check=True)
    again = figures(ran.stdout)
    assert again.keys() == OF_R.keys()
    assert all(agree(again[key], value) for key, value in OF_R.items())

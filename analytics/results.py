"""Write a `Released` as results.json (``periop.results/1``) and results.csv. The same input gives the same bytes.

Percentages have 4 decimals and their limits 2, rounded once, half up, from the exact value; times 4 and
fractions 6. A number that is not there is null, and `status` with `reason` says why.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import orjson

from analytics.disclosure.control import Released
from analytics.estimates.design import design_test
from analytics.estimates.model import FlowStep, Interval, Landmark, Proportion, QualityItem, Quantiles, Survival
from analytics.estimates.rounding import exact_percent, round_half_up
from analytics.provenance import Provenance
from analytics.spreadsheet import escape_formula

SCHEMA = "periop.results/1"
COLUMNS = ("section", "id", "label", "population", "months", "statistic", "value", "unit", "status", "reason")

# A night on which no figure changed is no new release, although it is another night.
NOT_FIGURES = ("provenance", "sites_missing_note")

Json = dict[str, Any]
Number = int | float | None
CsvRow = tuple[object, ...]
Estimated = Proportion | Quantiles | Survival | Landmark | FlowStep | QualityItem


def as_json(released: Released, release: int) -> Json:
    """Return the content of results.json for release number `release`."""
    return {
        "schema": SCHEMA,
        "study": released.study,
        "data_cut": released.data_cutoff,  # the key of the study file, which readers of the first version know
        "release": release,
        "sites": list(released.sites),
        "sites_missing": list(released.sites_missing),
        "sites_missing_note": released.provenance.note,
        "study_hash": released.study_hash,
        "provenance": _provenance(released.provenance),
        "disclosure": {"min_cell": released.min_cell, "statement": released.statement},
        "proportions": [_proportion(p) for p in released.proportions],
        "quantiles": [quantile_json(q) for q in released.quantiles],
        "survival": [survival_json(s) for s in released.survival],
        "flow": [_fields(step, "id", "label", "kind", "parent", "n") for step in released.flow],
        "quality": [_fields(item, "site", "domain", "issue", "count") for item in released.quality],
    }


def _provenance(found: Provenance) -> Json:
    return {
        "periop": found.version or None,
        "released": found.released or None,
        "lake_sync": found.lake_sync or None,
        "sites": [
            {"site": each.site, "complete": each.complete, "latest": each.latest, "up_to_date": each.up_to_date}
            for each in found.sites
        ],
        "patients_of_several_sites": found.patients_of_several_sites,
    }


def same_figures(earlier: bytes, later: bytes) -> bool:
    """Return True if two results.json differ at most in what the figures were made from, and when.

    >>> same_figures(b'{"release": 1, "provenance": {"released": "2026-05-01"}}', b'{"release": 1}')
    True
    """
    try:
        contents = [{**orjson.loads(each)} for each in (earlier, later)]
    except (orjson.JSONDecodeError, TypeError):
        return earlier == later
    before, after = ((each.get("provenance") or {}).get("released") for each in contents)
    if before and after and before > after:
        return False  # made while the clock was wrong: its days are not to stand
    return len({orjson.dumps({k: v for k, v in each.items() if k not in NOT_FIGURES}) for each in contents}) == 1


def dumps(released: Released, release: int) -> bytes:
    """Return results.json as UTF-8, indented, with a final newline; a float as the shortest text that means it."""
    return orjson.dumps(as_json(released, release), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _fields(estimate: Estimated, *names: str, **computed: object) -> Json:
    """Return fields as they are, then `computed` ones, then the status; `reason` only where there is one."""
    # Readers test for the key: a null reason beside status ok would look like one.
    reason = {"reason": estimate.reason} if estimate.reason else {}
    return {name: getattr(estimate, name) for name in names} | computed | {"status": estimate.status} | reason


def _proportion(p: Proportion) -> Json:
    # From the counts, not from `p.percent`: a float may lie on the wrong side of a half.
    exact = None if p.x is None or not p.n or p.percent is None else exact_percent(p.x, p.n)
    percent = None if exact is None else float(round_half_up(exact, 4))
    test = {} if p.design is None else {"test": _test(p)}
    return _fields(p, "id", "label", "population", "x", "n", percent=percent, ci=interval_json(p.ci, 2), **test)


def _test(p: Proportion) -> Json | None:
    found = design_test(p)
    return None if found is None else {**asdict(found), "p": _rounded(found.p, 6)}


def quantile_json(q: Quantiles) -> Json:
    """Return a quantity as it stands in results.json."""
    values = {name: _rounded(getattr(q, name), 4) for name in ("median", "q1", "q3")}
    method = {"median_status": q.median_status, "unit": q.unit, "method": q.method}
    if q.quartile_status != "ok":
        method["quartile_status"] = q.quartile_status
    return _fields(q, "id", "label", "population", "n", "missing", **values, **method)


def survival_json(s: Survival) -> Json:
    """Return a survival estimate as it stands in results.json."""
    landmarks = [
        {"t": _rounded(mark.t, 4), "at_risk": mark.at_risk, "s": _fraction(mark.s)}
        | _fields(mark, ci=interval_json(mark.ci, 6))
        for mark in s.landmarks
    ]
    curve = [
        {"t": _rounded(p.t, 4), "at_risk": p.at_risk, "events": p.events, "censored": p.censored}
        | {"s": _fraction(p.s), "low": _fraction(p.low), "high": _fraction(p.high)}
        for p in s.curve
    ]
    return _fields(
        s,
        *("id", "label", "population", "n", "events"),
        median=_rounded(s.median, 4),
        median_status=s.median_status,
        unit="months",
        ci=interval_json(s.ci, 4),
        landmarks=landmarks,
        curve=curve,
    )


def interval_json(ci: Interval | None, digits: int) -> Json | None:
    """Return an interval with limits of so many digits, None where there is none."""
    if ci is None:
        return None
    limits = {"low": _rounded(ci.low, digits), "high": _rounded(ci.high, digits)}
    return {"level": ci.level, "method": ci.method} | limits


def _rounded(value: float | None, digits: int) -> Number:
    """Return `value` rounded half up; a whole number without decimals."""
    if value is None:
        return None
    # 12 and not 12.0: what is whole was declared or counted so.
    number = round_half_up(value, digits)
    return int(number) if number == int(number) else float(number)


def _fraction(s: float | None) -> float | None:
    return None if s is None else float(round_half_up(s, 6))


def to_csv(released: Released) -> str:
    """Return one row per number (columns: `COLUMNS`), CRLF as in RFC 4180; a suppressed number is an empty `value`."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows(_rows(released))
    return file.getvalue()


def _rows(released: Released) -> Iterator[CsvRow]:
    for p in released.proportions:
        written = _proportion(p)
        tested = [] if p.design is None else [("p", (written["test"] or {}).get("p"), "probability")]
        yield from _lines("proportions", p, p.population, _numbers(written, "percent") + tested)
    for q in released.quantiles:
        yield from _lines("quantiles", q, q.population, _numbers(quantile_json(q), q.unit))
    for s in released.survival:
        yield from _survival_rows(s)
    # The population of a step of the flow is the step itself.
    for step in released.flow:
        yield from _lines("flow", step, "", [("n", step.n, "patients")])
    for item in released.quality:
        names = (item.site, f"{item.domain}: {item.issue}", "", "", "count")
        count = "" if item.count is None else item.count
        yield ("quality", *map(escape_formula, names), count, "records", item.status, escape_formula(item.reason))
    yield from _provenance_rows(released)


def _provenance_rows(released: Released) -> Iterator[CsvRow]:
    found = released.provenance
    facts = [("study_hash", "", released.study_hash), ("periop", "", found.version), ("released", "", found.released)]
    facts += [("lake_sync", "", str(found.lake_sync or ""))]
    facts += [(name, each.site, getattr(each, name) or "") for each in found.sites for name in ("complete", "latest")]
    facts += [("sites_missing_note", "", found.note or "")]
    facts += [("patients_of_several_sites", "", found.patients_of_several_sites or "")]
    for name, site, value in facts:
        if value:
            yield ("provenance", name, escape_formula(site), "", "", "text", escape_formula(value), "", "ok", "")


def _survival_rows(s: Survival) -> Iterator[CsvRow]:
    # From the JSON, so that both files round alike.
    written = survival_json(s)
    yield from _lines("survival", s, s.population, _numbers(written, "months"))
    for mark, exact in zip(written["landmarks"], s.landmarks, strict=True):
        numbers = [("landmark.at_risk", mark["at_risk"], "patients"), ("landmark.s", mark["s"], "fraction")]
        limits = [(f"landmark.{name}", value, unit) for name, value, unit in _limits(mark["ci"], "fraction")]
        yield from _lines("survival", s, s.population, numbers + limits, mark["t"], exact)
    for point in written["curve"]:
        counts = [(f"curve.{name}", point[name], "patients") for name in ("at_risk", "events", "censored")]
        band = [(f"curve.{name}", point[name], "fraction") for name in ("s", "low", "high")]
        yield from _lines("survival", s, s.population, counts + band, point["t"])


def _numbers(estimate: Json, unit: str) -> list[tuple[str, Number, str]]:
    """Return the numbers of a proportion or quantile with their units, the interval's limits last."""
    counts, values = ("x", "n", "missing", "events"), ("percent", "median", "q1", "q3")
    found = [(name, estimate[name], "patients") for name in counts if name in estimate]
    found += [(name, estimate[name], unit) for name in values if name in estimate]
    return found + _limits(estimate.get("ci"), unit)


def _limits(ci: Json | None, unit: str) -> list[tuple[str, Number, str]]:
    return [] if ci is None else [(f"ci_{side}", ci[side], unit) for side in ("low", "high")]


def _lines(
    section: str,
    estimate: Proportion | Quantiles | Survival | FlowStep,
    population: str,
    numbers: Iterable[tuple[str, Number, str]],
    months: Number = None,
    status: Landmark | None = None,
) -> Iterator[CsvRow]:
    state = status or estimate
    # Labels and reasons may quote a hospital's own texts: none of them may open as a formula.
    names = (escape_formula(estimate.id), escape_formula(estimate.label), escape_formula(population))
    for statistic, value, unit in numbers:
        shown = ("" if months is None else months, statistic, "" if value is None else value, unit)
        yield (section, *names, *shown, state.status, escape_formula(state.reason))

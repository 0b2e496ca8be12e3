"""The table "published / here": each published figure beside ours, the difference and the study's reason.

The published figures come as frames with the columns of ``alneo_published.csv`` (proportions) and
``alneo_published_other.csv`` (medians); this module reads no file. Differences are between what is printed
there and what we print, in percentage points, and between the counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from analytics.disclosure.control import Released
from analytics.estimates.model import Proportion, Quantiles, Survival
from analytics.estimates.rounding import exact_percent, round_half_up
from analytics.report import wording
from mappers.study import Study

PROPORTION_COLUMNS = (
    "id",
    "label",
    "x",
    "n",
    "x_source",
    "percent_printed",
    "ci_low_printed",
    "ci_high_printed",
)
OTHER_COLUMNS = ("id", "label", "statistic", "value", "low", "high", "unit", "n")
SAME = "none"
NOT_COMPARABLE = "not comparable"
NOT_ESTIMATED = "not estimated here"
NO_REASON = "The study file gives no reason."

Row = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Comparison:
    """One figure, published and here, as text. `inferred`: the published x follows from its percentage."""

    id: str
    label: str
    published: str
    here: str
    difference: str
    reasons: tuple[str, ...]
    inferred: bool = False

    @property
    def differs(self) -> bool:
        """Whether a reader has to be told why."""
        return self.difference != SAME


def compare(
    released: Released, study: Study, published: pd.DataFrame | None, other: pd.DataFrame | None
) -> tuple[Comparison, ...]:
    """Compare every published figure with ours. Raises `ValueError` where a frame lacks a column."""
    proportions = {estimate.id: estimate for estimate in released.proportions}
    medians: dict[str, Quantiles | Survival] = {q.id: q for q in released.quantiles}
    medians |= {curve.id: curve for curve in released.survival}
    notes = {note.id: note.text for note in study.notes if note.id}
    rows = [_proportion(row, proportions.get(str(row["id"]))) for row in _rows(published, PROPORTION_COLUMNS)]
    rows += [_median(row, medians.get(str(row["id"]))) for row in _rows(other, OTHER_COLUMNS)]
    return tuple(_with_note(row, notes) for row in rows)


def _rows(frame: pd.DataFrame | None, columns: tuple[str, ...]) -> list[dict[Hashable, Any]]:
    if frame is None:
        return []
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"published figures lack the column(s) {', '.join(missing)}: add them to the study's CSV file")
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _with_note(row: Comparison, notes: dict[str, str]) -> Comparison:
    """Add the study's note; a difference that nobody explains is said to be unexplained."""
    note = notes.get(row.id)
    reasons = (*row.reasons, note) if note else row.reasons
    if row.differs and not reasons:
        reasons = (NO_REASON,)
    return Comparison(row.id, row.label, row.published, row.here, row.difference, reasons, row.inferred)


def _proportion(row: Row, ours: Proportion | None) -> Comparison:
    published = " · ".join(part for part in (_printed_counts(row), _printed_percent(row)) if part)
    here, difference = NOT_ESTIMATED, NOT_COMPARABLE
    reasons: tuple[str, ...] = ()
    if ours is not None and ours.status != "ok":
        here, reasons = wording.WORDS[ours.status], (ours.reason,) if ours.reason else ()
    elif ours is not None:
        x, n = wording.counts(ours)
        printed_ci = ours.ci if ours.ci is not None and row["ci_low_printed"] is not None else None
        limits = f" ({wording.percent_interval(printed_ci)})" if printed_ci else ""
        here, difference = f"{x}/{n} · {wording.share(x, n)}{limits}", _difference(row, ours)
    inferred = row["x_source"] == "inferred"
    label = ours.label if ours else str(row["label"])
    return Comparison(str(row["id"]), label, published, here, difference, reasons, inferred)


def _difference(row: Row, ours: Proportion) -> str:
    """Counts, then percentage points, then the limits of the interval; ``none`` where all print the same."""
    x, n = wording.counts(ours)
    printed = _printed_counts(row)
    parts = [f"{x}/{n} for {printed}" if printed and printed != f"{x}/{n}" else None]
    if row["percent_printed"] is not None:
        points = int(round_half_up(exact_percent(x, n))) - round(float(row["percent_printed"]))
        parts.append(f"{_signed(points)} percentage point{'' if abs(points) == 1 else 's'}" if points else None)
    if ours.ci is not None:
        parts += [
            _limit("lower", row["ci_low_printed"], ours.ci.low),
            _limit("upper", row["ci_high_printed"], ours.ci.high),
        ]
    return "; ".join(part for part in parts if part) or SAME


def _limit(name: str, printed: Any, ours: float | None) -> str | None:
    if printed is None or ours is None:
        return None
    points = int(round_half_up(wording.exact(ours))) - round(float(printed))
    return f"{name} limit {_signed(points)}" if points else None


def _median(row: Row, ours: Quantiles | Survival | None) -> Comparison:
    here, difference = NOT_ESTIMATED, NOT_COMPARABLE
    reasons: tuple[str, ...] = ()
    published = _printed_median(row)
    if ours is not None and (ours.status != "ok" or ours.median_status in ("suppressed", "not_evaluable")):
        status = ours.status if ours.status != "ok" else ours.median_status
        here, reasons = wording.WORDS[status], (ours.reason,) if ours.reason else ()
    elif ours is not None:
        here = _our_median(ours, with_quartiles=row["low"] is not None)
        difference = SAME if here == published else _median_difference(row, ours)
    label = f"{ours.label if ours else row['label']}, {row['statistic']}"
    return Comparison(str(row["id"]), label, published, here, difference, reasons)


def _median_difference(row: Row, ours: Quantiles | Survival) -> str:
    value = _number(row["value"])
    if value is None or ours.median is None:
        return "different"
    change = round_half_up(wording.exact(ours.median), 1) - round_half_up(value, 1)
    return f"median {_signed(change)} {row['unit']}" if change else "quartiles differ"


def _our_median(ours: Quantiles | Survival, with_quartiles: bool) -> str:
    if isinstance(ours, Quantiles) and with_quartiles:
        return wording.quartiles(ours)
    unit = ours.unit if isinstance(ours, Quantiles) else "months"
    return wording.median(ours) if ours.median_status == "not_reached" else f"{wording.median(ours)} {unit}"


def _printed_median(row: Row) -> str:
    value, unit = _number(row["value"]), str(row["unit"])
    if value is None:
        return str(row["value"])
    low, high = (None if row[key] is None else _printed_quantity(row[key], unit) for key in ("low", "high"))
    spread = f" ({low}{wording.DASH}{high})" if low and high else ""
    return f"{_printed_quantity(row['value'], unit)}{spread} {unit}"


def _printed_quantity(value: Any, unit: str) -> str:
    return wording.quantity(float(value), unit)


def _number(value: Any) -> Fraction | None:
    """`value` of the CSV as a number, or None for a word such as "not reached"."""
    try:
        return Fraction(str(value))
    except ValueError:
        return None


def _printed_counts(row: Row) -> str | None:
    return None if row["x"] is None or row["n"] is None else f"{int(row['x'])}/{int(row['n'])}"


def _printed_percent(row: Row) -> str | None:
    percent = row["percent_printed"]
    return None if percent is None else f"{_printed(percent)}{wording.SPACE}%{_printed_ci(row)}"


def _printed(value: Any) -> str:
    return f"{float(value):g}"


def _printed_ci(row: Row) -> str:
    low, high = row["ci_low_printed"], row["ci_high_printed"]
    if low is None or high is None:
        return ""
    return f" ({_printed(low)}{wording.DASH}{_printed(high)}{wording.SPACE}%)"


def _signed(points: Any) -> str:
    return f"+{points}" if points > 0 else f"{wording.MINUS}{abs(points)}"

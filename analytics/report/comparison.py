"""Compare each published figure with ours: the difference, and the study's reason for it.

The published figures come as frames with the columns of ``alneo_published.csv`` (proportions) and
``alneo_published_other.csv`` (medians); this module reads no file. Differences are between what is printed
there and what we print, in percentage points, and between the counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pandas as pd

from analytics.disclosure.control import Released
from analytics.estimates.model import Proportion, Quantiles, Survival
from analytics.estimates.rounding import exact_percent, round_half_up
from analytics.report import tables, wording
from mappers.study import Study

PROPORTION_COLUMNS = ("id", "label", "x", "n", "x_source", "percent_printed", "ci_low_printed", "ci_high_printed")
OTHER_COLUMNS = ("id", "label", "statistic", "value", "low", "high", "unit", "n")
# The words of the last column; `SAME` also decides about the mark on the terminal.
SAME = "none"
QUARTILES = "quartiles differ"
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
    here: str = NOT_ESTIMATED
    difference: str = NOT_COMPARABLE
    reasons: tuple[str, ...] = ()
    inferred: bool = False

    @property
    def differs(self) -> bool:
        """Return whether a reader has to be told why."""
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
    return tuple(_with_note(row, notes.get(row.id)) for row in rows)


def _rows(frame: pd.DataFrame | None, columns: tuple[str, ...]) -> list[dict[Hashable, Any]]:
    if frame is None:
        return []
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"published figures lack the column(s) {', '.join(missing)}: add them to the study's CSV file")
    # pandas reads a blank as NaN, which is true and equal to nothing: None says what is meant.
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _with_note(row: Comparison, note: str | None) -> Comparison:
    """Add the study's note; a difference that nobody explains is said to be unexplained."""
    reasons = (*row.reasons, note) if note else row.reasons
    # What is not shown here cannot differ without an explanation.
    unexplained = row.differs and row.difference != NOT_COMPARABLE
    return replace(row, reasons=reasons or ((NO_REASON,) if unexplained else ()))


def _absent(row: Comparison, gap: tables.Missing) -> Comparison:
    return replace(row, here=gap.word, reasons=(gap.reason,) if gap.reason else ())


def _proportion(row: Row, ours: Proportion | None) -> Comparison:
    counts = None if row["x"] is None or row["n"] is None else f"{int(row['x'])}/{int(row['n'])}"
    published = " · ".join(part for part in (counts, _printed_percent(row)) if part)
    label = ours.label if ours else str(row["label"])
    found = Comparison(str(row["id"]), label, published, inferred=row["x_source"] == "inferred")
    if ours is None:
        return found
    if gap := tables.missing(ours):
        return _absent(found, gap)
    x, n = wording.counts(ours)
    # An interval that the report does not print has nothing to be compared with.
    limits = f" ({wording.percent_interval(ours.ci)})" if ours.ci and row["ci_low_printed"] is not None else ""
    here = f"{x}/{n} · {wording.share(x, n)}{limits}"
    return replace(found, here=here, difference=_difference(row, ours, counts))


def _printed_percent(row: Row) -> str | None:
    percent, low, high = (
        None if row[name] is None else f"{float(row[name]):g}"
        for name in ("percent_printed", "ci_low_printed", "ci_high_printed")
    )
    limits = "" if low is None or high is None else f" ({low}{wording.DASH}{high}{wording.SPACE}%)"
    return None if percent is None else f"{percent}{wording.SPACE}%{limits}"


def _difference(row: Row, ours: Proportion, printed: str | None) -> str:
    """Return the counts, then percentage points, then the limits; ``none`` where all print the same."""
    x, n = wording.counts(ours)
    parts = [f"{x}/{n} for {printed}"] if printed and printed != f"{x}/{n}" else []
    if row["percent_printed"] is not None:
        # What is printed there is compared with what is printed here, so both are whole percentages.
        points = int(round_half_up(exact_percent(x, n))) - round(float(row["percent_printed"]))
        parts += [f"{_signed(points)} percentage point{'' if abs(points) == 1 else 's'}"] if points else []
    if ours.ci is not None:
        for side, exact in (("lower", ours.ci.low), ("upper", ours.ci.high)):
            limit = row["ci_low_printed" if side == "lower" else "ci_high_printed"]
            if limit is not None and exact is not None:
                points = int(round_half_up(wording.exact(exact))) - round(float(limit))
                parts += [f"{side} limit {_signed(points)}"] if points else []
    return "; ".join(parts) or SAME


def _median(row: Row, ours: Quantiles | Survival | None) -> Comparison:
    published = _printed_median(row)
    label = f"{ours.label if ours else row['label']}, {row['statistic']}"
    # As text, and so as printed: a published median has lost the digits that a comparison of numbers would need.
    found = Comparison(str(row["id"]), label, published)
    if ours is None:
        return found
    if gap := tables.missing(ours):
        return _absent(found, gap)
    # Quartiles that are suppressed are compared with nothing: what is shown is the median.
    if isinstance(ours, Quantiles) and row["low"] is not None and ours.quartile_status == "suppressed":
        difference = _median_difference(row, ours)
        return replace(found, here=wording.quartiles(ours), difference=SAME if difference == QUARTILES else difference)
    # Where the report prints a median without quartiles, ours are left out as well.
    if isinstance(ours, Quantiles) and row["low"] is not None:
        here = wording.quartiles(ours)
    else:
        unit = f" {ours.unit if isinstance(ours, Quantiles) else 'months'}" if ours.median_status == "ok" else ""
        here = f"{wording.median(ours)}{unit}"
    return replace(found, here=here, difference=SAME if here == published else _median_difference(row, ours))


def _printed_median(row: Row) -> str:
    unit = str(row["unit"])
    if _number(row["value"]) is None:
        return str(row["value"])
    value, low, high = (
        None if row[name] is None else wording.quantity(float(row[name]), unit) for name in ("value", "low", "high")
    )
    return f"{value} ({low}{wording.DASH}{high}) {unit}" if low and high else f"{value} {unit}"


def _median_difference(row: Row, ours: Quantiles | Survival) -> str:
    value = _number(row["value"])
    if value is None or ours.median is None:
        return "different"
    # One decimal, as printed. If the medians agree, what differs is the quartiles.
    change = round_half_up(wording.exact(ours.median), 1) - round_half_up(value, 1)
    return f"median {_signed(change)} {row['unit']}" if change else QUARTILES


def _number(value: Any) -> Fraction | None:
    """Return `value` of the CSV as a number, or None for a word such as "not reached"."""
    try:
        return Fraction(str(value))
    except ValueError:
        return None


def _signed(points: Any) -> str:
    return f"+{points}" if points > 0 else f"{wording.MINUS}{abs(points)}"

"""The published figures of a study, from the CSV files in the folder of its file.

`published = "trial.csv"` in the study names the proportions; the medians lie in `trial_other.csv`, if
there are any. Columns: those of `analytics.report.comparison`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analytics.disclosure.control import Released
from analytics.report.comparison import OTHER_COLUMNS, PROPORTION_COLUMNS, SAME, compare
from mappers.study import Study, study_path
from schedules.errors import ConfigError


@dataclass(frozen=True)
class PublishedFigures:
    """One row per published proportion (`proportions`) and per published median (`other`), or None."""

    proportions: pd.DataFrame | None = None
    other: pd.DataFrame | None = None


@dataclass(frozen=True)
class Agreement:
    """One published figure and ours, as text.

    `equal` compares x and n of a proportion exactly, and a median as printed, since only that is published.
    """

    id: str
    label: str
    published: str
    here: str
    equal: bool
    is_proportion: bool


def load_published(study: Study, study_file: Path) -> PublishedFigures:
    """Return the published figures that `study`, read from `study_file`, names.

    Raises `ConfigError` when their file is missing or not a CSV with the required columns.
    """
    if study.published is None:
        return PublishedFigures()
    file = study_file.parent / study.published
    other = file.with_name(f"{file.stem}_other{file.suffix}")
    if not file.is_file():
        raise ConfigError(f"{study_file}: published: {file} not found; put it next to the study or remove the key")
    others = _read(other, OTHER_COLUMNS) if other.is_file() else None
    return PublishedFigures(_read(file, PROPORTION_COLUMNS), others)


def agreements(released: Released, study: Study, name_or_path: str) -> tuple[Agreement, ...]:
    """Return each published figure next to ours, in the order of the files.

    `name_or_path` is that of `study`; its published figures are in the same folder.
    """
    figures = load_published(study, study_path(name_or_path))
    compared = compare(released, study, figures.proportions, figures.other)
    # A figure that is published as a percentage only has no x and n to compare.
    counted = pd.DataFrame() if figures.proportions is None else figures.proportions.dropna(subset=["x", "n"])
    counts = {str(row["id"]): (int(row["x"]), int(row["n"])) for row in counted.to_dict("records")}
    ours = {estimate.id: (estimate.x, estimate.n) for estimate in released.proportions}
    return tuple(
        Agreement(
            row.id,
            row.label,
            row.published,
            row.here,
            # x and n and not the percentage: the published percentages are rounded, some of them twice.
            ours.get(row.id) == counts[row.id] if row.id in counts else row.difference == SAME,
            is_proportion=row.id in counts,
        )
        for row in compared
    )


def _read(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file)
    # pandas raises ValueError for a malformed or an empty file, with a message that may quote its content.
    except (ValueError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise ConfigError(f"{file}: not a readable CSV ({kind}); save it as UTF-8 with a header") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ConfigError(f"{file}: lacks the column(s) {', '.join(missing)}; required: {', '.join(columns)}")
    return frame

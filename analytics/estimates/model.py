"""The result types: one frozen dataclass per kind of estimate, plain data without behaviour.

Every estimate names its population, its denominator, its method and its level. "Not reached", "not evaluable"
and "suppressed" are values of their own, never 0, NaN or inf: a field that has no value is ``None`` and
``status`` says why. These types are what `analytics.disclosure.control` reads; only what it returns (`Released`) may
be rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from analytics.provenance import NOT_GIVEN, Provenance
from mappers.study import Design

# The words are part of results.json.
Status = Literal["ok", "suppressed", "not_evaluable"]
MedianStatus = Literal["ok", "not_reached", "suppressed", "not_evaluable"]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; limits in the unit of the estimate, ``None`` = no finite limit."""

    level: float
    method: str
    # An upper limit of a median that is not reached is None, and not infinity, which JSON cannot write.
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Proportion:
    """`x` of `n` patients of `population`; `percent` and the limits of `ci` in percent, unrounded."""

    id: str
    label: str
    population: str
    # The table that this figure is a row of: rows of one table can be subtracted from its total.
    breakdown: str
    x: int | None
    n: int | None
    percent: float | None
    ci: Interval | None
    status: Status = "ok"
    reason: str | None = None
    # What it is tested against; the test follows from x and n alone (`analytics.estimates.design`).
    design: Design | None = None


@dataclass(frozen=True)
class Quantiles:
    """Median and quartiles of one quantity, in `unit`; `n` patients had a value.

    `method` names the definition of a quantile. `missing` patients of the population had no value and
    are left out.
    """

    id: str
    label: str
    population: str
    n: int | None
    median: float | None
    q1: float | None
    q3: float | None
    unit: str
    method: str
    median_status: MedianStatus = "ok"
    status: Status = "ok"
    reason: str | None = None
    # Published too: a median of few is not to be taken for one of all.
    missing: int | None = 0
    # Quartiles may be withheld where the median is not: fewer patients lie beyond them.
    quartile_status: MedianStatus = "ok"

    @property
    def breakdown(self) -> str:
        """Return the id: an estimate that is no proportion is a table of its own."""
        return self.id


@dataclass(frozen=True)
class CurvePoint:
    """One step of a Kaplan-Meier curve. `t` in months; `s`, `low`, `high` are fractions in [0, 1].

    `at_risk` patients just before the step, of whom `events` and `censored` leave at it: the next point has
    `at_risk - events - censored`. In a released, coarsened curve a step stands for all since the point
    before.
    """

    t: float
    at_risk: int
    events: int
    censored: int
    s: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Landmark:
    """Survival at `t` months, as a fraction, with its confidence limits."""

    t: float
    at_risk: int | None
    s: float | None
    ci: Interval | None
    status: Status = "ok"
    reason: str | None = None


@dataclass(frozen=True)
class Survival:
    """A Kaplan-Meier estimate; `median` and the limits of `ci` (of the median) in months."""

    id: str
    label: str
    population: str
    n: int | None
    events: int | None
    median: float | None
    # Apart from `status`: a curve with a median that is not reached is a result like any other.
    median_status: MedianStatus
    ci: Interval | None
    landmarks: tuple[Landmark, ...]
    curve: tuple[CurvePoint, ...]
    status: Status = "ok"
    reason: str | None = None

    @property
    def breakdown(self) -> str:
        """Return the id: an estimate that is no proportion is a table of its own."""
        return self.id


Estimate = Proportion | Quantiles | Survival


@dataclass(frozen=True)
class FlowStep:
    """One box of the CONSORT-like flow diagram: `n` patients; `parent` is the id of the box it hangs from.

    `kind` is ``main`` for the trunk and ``excluded`` for those who left it (with `label` the reason).
    """

    id: str
    label: str
    kind: Literal["main", "excluded"]
    parent: str | None
    n: int | None
    status: Status = "ok"
    reason: str | None = None


@dataclass(frozen=True)
class QualityItem:
    """`count` records of `domain` at `site` that were missing, unmapped or set aside, for `issue`."""

    site: str
    domain: str
    issue: str
    count: int | None
    status: Status = "ok"
    reason: str | None = None
    # How many patients the records are of, where it is known. Never shown.
    patients: int | None = None


@dataclass(frozen=True)
class Cell:
    """The patients behind one count of a result, as bits by their row number in the cohort (no identifiers).

    `figure` is the id of what shows the count: an estimate, a box of the flow diagram, ``n.<population>``. `population`
    is the id of the count of those among whom it is counted. `time` marks a count of a survival curve at that many
    months, which is shown only if the coarsened curve has a step there. `variable_groups` say what the count is about
    (`analytics.disclosure.variable_groups`; empty: linked to everything). A count that is not `listed` is shown
    nowhere: it is there because it could be derived.
    """

    id: str
    figure: str
    # Row numbers and no USUBJIDs: what a mistake might print must not name a patient.
    patients: int
    population: str = ""
    variable_groups: frozenset[str] = frozenset()
    time: float | None = None
    listed: bool = True


@dataclass(frozen=True)
class Results:
    """All results of one analysis before disclosure control. Never rendered, never written."""

    study: str
    study_title: str
    data_cutoff: str
    sites: tuple[str, ...]
    study_hash: str
    population_sizes: dict[str, int]
    proportions: tuple[Proportion, ...]
    quantiles: tuple[Quantiles, ...]
    survival: tuple[Survival, ...]
    flow: tuple[FlowStep, ...]
    quality: tuple[QualityItem, ...]
    provenance: Provenance = NOT_GIVEN
    cells: tuple[Cell, ...] = ()
    # Adverse events by coarser grades, by figure: shown in place of the six grades where those are too few.
    coarser: Mapping[str, tuple[Proportion, ...]] = field(default_factory=lambda: MappingProxyType({}))
    # How many patients lie on the smaller side of the first quartile, the median and the third quartile, by id.
    beside: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: MappingProxyType({}))
    # What the study says of the importance of an estimate, by id.
    importance: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    # Site and pseudonym of each patient by row number, the same from one analysis to the next. Never shown.
    subjects: tuple[str, ...] = field(default=(), repr=False)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Return all proportions, quantiles and survival estimates."""
        return (*self.proportions, *self.quantiles, *self.survival)

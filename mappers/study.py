"""A Study is data: one TOML file read into frozen pydantic models, `extra="forbid"` at every depth.

It holds eligibility, codes, windows, thresholds, populations, endpoint rules, interval level and method per endpoint
and the data cutoff. `alneo` is the one shipped; another perioperative trial is another file, not another program.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHIPPED = Path(__file__).parent / "studies"

# The parameters of ADTTE that `map` makes; a table of one's own may have others.
TIMES_TO_EVENT = {
    "EFS": "Event-free survival",
    "OS": "Overall survival",
    "DFS": "Disease-free survival after R0 resection",
    "TTSURG": "Time to surgery",
    "TTADJ": "Time from surgery to adjuvant treatment",
}

Population = Literal["enrolled", "resected", "adjuvant"]
Dataset = Literal["adsl", "adrs", "adtte", "adae"]
Scalar = str | int | float
Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, gt=0, lt=1)]
# What disclosure control keeps before others: relative to the defaults in docs/disclosure.md, which are 1 to 20
Importance = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(strict=True, ge=1)]


class Part(BaseModel):
    """The base of every part of a study: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Eligibility(Part):
    """Criteria of enrolment: a confirmed condition of value set `nsclc`, a baseline stage and ALK status, >= 1 dose.

    `ecog_max` and `prior_systemic_treatment` are criteria only where they are given. Treatment counts as prior up to
    `prior_systemic_days` before the first dose; without it, at any time before.
    """

    stages: tuple[str, ...]
    alk: tuple[str, ...] = ("POSITIVE",)
    ecog_max: Annotated[int, Field(strict=True, ge=0, le=5)] | None = None
    ecog_unknown: Literal["enrol", "exclude"] = "enrol"
    prior_systemic_treatment: Literal["excluded"] | None = None
    prior_systemic_days: Annotated[int, Field(strict=True, gt=0)] | None = None


class Treatment(Part):
    """Phases of systemic treatment, in days. A course is complete after `cycles` x `cycle_days` of exposure."""

    drug: str
    cycle_days: Annotated[int, Field(strict=True, gt=0)] = 28
    neoadjuvant_cycles: Annotated[int, Field(strict=True, gt=0)] = 2
    adjuvant_cycles: Annotated[int, Field(strict=True, gt=0)] = 24
    merge_gap_days: Annotated[int, Field(strict=True, ge=0)] = 7
    # Capsules or tablets a day, for a dispense that says how many but not for how long
    daily_units: Annotated[float, Field(strict=True, gt=0)] | None = None


class Response(Part):
    """Rules of the response endpoints (docs/endpoint-rules.md 2-7)."""

    mpr_threshold_percent: Annotated[float, Field(strict=True, ge=0, le=100)] = 10
    mpr_scope: Literal["primary", "primary_and_nodes"] = "primary_and_nodes"
    pcr_accepts_tis: Flag = False
    prefer_evaluator: Literal["BICR", "INVESTIGATOR"] = "BICR"


class Events(Part):
    """Events of EFS beyond progression, recurrence and death (docs/endpoint-rules.md 8).

    `undated_death` says when a death of unknown date counts in the analysis: on the day on which the patient was last
    known alive, or not at all.
    """

    r1_r2_is_event: Flag = False
    worsened_is_progression: Flag = False
    undated_death: Literal["last_contact", "exclude"] = "last_contact"


class Safety(Part):
    """Treatment-emergent window: first dose of a phase to its last + `window_days` (docs/endpoint-rules.md 15)."""

    window_days: Annotated[int, Field(strict=True, ge=0)] = 30


class Where(Part):
    """One condition on a column: one of `is_in`, none of `not_in` (blank passes), within [`minimum`, `maximum`]."""

    column: str
    is_in: tuple[Scalar, ...] = ()
    not_in: tuple[Scalar, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


class Design(Part):
    """The test that a single-arm phase II trial was planned for: is the true rate above `null_rate`?

    `patients` and `responses` are the plan: so many evaluable patients, and so many responses from which the null rate
    is rejected (A'Hern 2001). `first_patients` and `first_responses` are the first stage of a two-stage plan, and how
    many responses it takes to go on (Simon 1989).
    """

    null_rate: Fraction
    alpha: Fraction = 0.05
    patients: Count | None = None
    responses: Count | None = None
    first_patients: Count | None = None
    first_responses: Count | None = None

    @model_validator(mode="after")
    def _whole_stages(self) -> Self:
        if (self.patients is None) != (self.responses is None):
            raise ValueError("`patients` and `responses` are one plan: give both or neither")
        if (self.first_patients is None) != (self.first_responses is None):
            raise ValueError("`first_patients` and `first_responses` are one stage: give both or neither")
        if self.responses is not None and self.patients is not None and self.responses > self.patients:
            raise ValueError(f"`responses` is above the {self.patients} planned `patients`")
        if self.first_patients is None or self.first_responses is None:
            return self
        if self.patients is None or self.first_patients >= self.patients:
            raise ValueError("a first stage needs `patients`, the number of both stages together, to be larger")
        if self.first_responses > self.first_patients:
            raise ValueError(f"`first_responses` is above the {self.first_patients} `first_patients`")
        return self


class ProportionSpec(Part):
    """Patients of `population` with at least one row of `dataset` that meets every condition of `where`.

    `breakdown` groups the cells of one table (default: the id itself); disclosure control suppresses them together.
    `cut` names a further data cutoff of the study; without it the main one is meant. `design` is what the figure is
    tested against.
    """

    id: str
    label: str
    population: Population = "enrolled"
    dataset: Dataset = "adsl"
    where: tuple[Where, ...] = ()
    breakdown: str | None = None
    ci_level: Fraction = 0.95
    ci_method: Literal["clopper-pearson", "wilson", "jeffreys"] = "clopper-pearson"
    design: Design | None = None
    cut: str | None = None
    importance: Importance | None = None


class QuantileSpec(Part):
    """Median and quartiles: of `variable` of ADSL, of the days from `start` to `end` of ADSL in `unit`, or of
    follow-up by reverse Kaplan-Meier on ADTTE parameter `paramcd` (`method = "reverse_km"`, in months)."""

    id: str
    label: str
    population: Population = "enrolled"
    variable: str | None = None
    start: str | None = None
    end: str | None = None
    paramcd: str | None = None
    unit: Literal["years", "weeks", "days", "months"]
    method: Literal["type7", "reverse_km"] = "type7"
    cut: str | None = None
    importance: Importance | None = None


class SurvivalSpec(Part):
    """A Kaplan-Meier estimate of ADTTE parameter `paramcd`; landmarks in months."""

    id: str
    label: str
    paramcd: str
    population: Population = "enrolled"
    ci_level: Fraction = 0.95
    landmarks: tuple[Annotated[float, Field(gt=0)], ...] = (12, 24)
    min_at_risk: Annotated[int, Field(strict=True, ge=1)] = 5
    importance: Importance | None = None


class Cut(Part):
    """A further data cutoff, for the estimates that name it."""

    id: str
    date: date


class Note(Part):
    """A reason why a published figure and ours may differ, shown in the report beside estimate `id` (or in general)."""

    id: str | None = None
    text: str


class Study(Part):
    """One study. `published` names a CSV beside the file with the published figures to compare with."""

    id: str
    title: str
    registry: str | None = None
    arm: str
    data_cut: date
    cuts: tuple[Cut, ...] = ()
    eligibility: Eligibility
    treatment: Treatment
    response: Response = Response()
    events: Events = Events()
    safety: Safety = Safety()
    proportions: tuple[ProportionSpec, ...]
    quantiles: tuple[QuantileSpec, ...] = ()
    survival: tuple[SurvivalSpec, ...] = ()
    published: str | None = None
    notes: tuple[Note, ...] = ()

    @model_validator(mode="after")
    def _each_id_once(self) -> Self:
        # Results, published figures and notes are looked up by the id alone.
        declared: tuple[ProportionSpec | QuantileSpec | SurvivalSpec, ...] = (
            *self.proportions,
            *self.quantiles,
            *self.survival,
        )
        ids = Counter(spec.id for spec in declared)
        if doubled := sorted(id_ for id_, number in ids.items() if number > 1):
            raise ValueError(f"several estimates have the id {', '.join(doubled)}: give each its own")
        return self

    @property
    def hash(self) -> str:
        """The SHA-256 of the study's content: two results with the same hash were made by the same rules."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def study_path(name_or_path: str) -> Path:
    """Return the file of a shipped study by its name, or the path as given."""
    shipped = SHIPPED / f"{name_or_path}.toml"
    return shipped if shipped.is_file() else Path(name_or_path)


def load_study(name_or_path: str) -> Study:
    """Read a study by the name of a shipped one or by path.

    >>> study = load_study("alneo")
    >>> study.data_cut.isoformat(), study.treatment.merge_gap_days
    ('2024-12-01', 7)

    Raises:
        OSError, tomllib.TOMLDecodeError, pydantic.ValidationError: it cannot be read, is no TOML, or no study.
    """
    with study_path(name_or_path).open("rb") as file:
        return Study.model_validate(tomllib.load(file))

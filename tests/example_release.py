"""An example release of 33 invented patients for the tests of the report: the published counts of ALNEO, a
made-up curve, made-up grades. Simple code of its own; nothing here comes from the analysis that it stands
in for.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path

import pandas as pd

from analytics.disclosure.control import Released, release
from analytics.estimates.model import (
    CurvePoint,
    FlowStep,
    Interval,
    Landmark,
    Proportion,
    QualityItem,
    Quantiles,
    Results,
    Survival,
)
from mappers.study import Study, load_study
from tests.behind_counts import with_cells

STUDIES = Path(__file__).parents[1] / "mappers" / "studies"
SIZES = {"enrolled": 33, "resected": 28, "adjuvant": 26}
# x of the estimates that the published report does not print.
UNPUBLISHED = {
    "baseline.sex.male": 10,
    "baseline.smoking.former": 12,
    "baseline.smoking.current": 4,
    "baseline.ecog.0": 22,
    "baseline.ecog.1": 11,
}
# Exact limits in percent, found by bisection of the binomial tail sums of 15/33 (90 %) and 4/33 (95 %).
LIMITS = {
    "response.mpr": (30.49095797287307, 61.05974628951678),
    "response.pcr": (3.403288142297868, 28.201622853722),
}
# (term, phase, population): patients by worst grade 1, 2, 3.
GRADES = {
    ("Alanine aminotransferase increased", "neoadjuvant", "enrolled"): (2, 2, 1),
    ("Aspartate aminotransferase increased", "neoadjuvant", "enrolled"): (3, 2, 0),
    ("Asthenia", "neoadjuvant", "enrolled"): (3, 2, 0),
    ("Diarrhoea", "neoadjuvant", "enrolled"): (1, 0, 1),
    ("Blood creatine phosphokinase increased", "neoadjuvant", "enrolled"): (0, 0, 1),
    ("Asthenia", "adjuvant", "adjuvant"): (4, 2, 0),
    ("Blood bilirubin increased", "adjuvant", "adjuvant"): (3, 3, 0),
    ("Alanine aminotransferase increased", "adjuvant", "adjuvant"): (3, 1, 1),
    ("Neutropenia", "adjuvant", "adjuvant"): (0, 0, 1),
}
EVENT_DAYS = (60, 63, 300, 410, 500, 520, 640)
CENSORED_DAYS = (139, 146, 153, 162, 171, 190, 207, 207, 207, 240, 285, 360, 400, 463, 463, 520, 620, 680)
CENSORED_DAYS += (846, 846, 880, 930, 985, 1040, 1110, 1286)


def example_results(study: Study | None = None) -> Results:
    """Everything the report shows, before disclosure control."""
    study = study or load_study("alneo")
    return Results(
        study=study.id,
        study_title=study.title,
        data_cutoff="2024-12-01",
        sites=("milan", "turin"),
        study_hash="0" * 60 + "cafe",
        population_sizes=SIZES,
        proportions=(*_declared(study), *_grades()),
        quantiles=QUANTILES,
        survival=(
            curve("survival.efs", "Event-free survival", EVENT_DAYS, CENSORED_DAYS),
            curve("survival.os", "Overall survival", (250, 500), (*CENSORED_DAYS, 60, 300, 410, 520, 640)),
        ),
        flow=FLOW,
        quality=QUALITY,
    )


def example_release(min_cell: int = 0, **changes: object) -> Released:
    """The example after disclosure control; `changes` replace fields of the results."""
    return release(with_cells(replace(example_results(), **changes)), min_cell)


def published() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published figures that come with the study."""
    return pd.read_csv(STUDIES / "alneo_published.csv"), pd.read_csv(STUDIES / "alneo_published_other.csv")


def _declared(study: Study) -> list[Proportion]:
    counts = published()[0].set_index("id")["x"].to_dict() | UNPUBLISHED
    rows = []
    for spec in study.proportions:
        x, n = int(counts[spec.id]), SIZES[spec.population]
        low, high = LIMITS.get(spec.id, _wilson(x, n))
        ci = Interval(spec.ci_level, "clopper-pearson" if spec.id in LIMITS else "wilson", low, high)
        rows.append(Proportion(spec.id, spec.label, spec.population, spec.breakdown or spec.id, x, n, 100 * x / n, ci))
    return rows


def _wilson(x: int, n: int) -> tuple[float, float]:
    """The score interval in percent (Wilson 1927): not what the analysis uses, and named as what it is."""
    z, p = 1.959964, x / n
    middle, half = (p + z * z / (2 * n)), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, 100 * (middle - half) / (1 + z * z / n)), min(100.0, 100 * (middle + half) / (1 + z * z / n))


def _grades() -> list[Proportion]:
    rows = []
    for (term, phase, population), counts in GRADES.items():
        breakdown, n = f"safety.{phase}.{term.lower().replace(' ', '_')}", SIZES[population]
        cells = [*counts, 0, 0, 0]
        for grade, x in zip(("1", "2", "3", "4", "5", "unknown"), cells, strict=True):
            label = f"{term}, {phase}, worst grade {grade}"
            rows.append(
                Proportion(f"{breakdown}.worst_grade_{grade}", label, population, breakdown, x, n, 100 * x / n, None)
            )
    return rows


def curve(name: str, label: str, events: tuple[int, ...], censored: tuple[int, ...]) -> Survival:
    """Kaplan-Meier by hand, days / 30.4375, with the Greenwood log(-log) band."""
    days = sorted({*events, *censored})
    at_risk, s, variance = len(events) + len(censored), 1.0, 0.0
    points = [CurvePoint(0.0, at_risk, 0, 0, 1.0, 1.0, 1.0)]
    for day in days:
        d, c = events.count(day), censored.count(day)
        s *= 1 - d / at_risk
        variance += d / (at_risk * (at_risk - d)) if at_risk > d else 0
        points.append(CurvePoint(day / 30.4375, at_risk, d, c, s, *_band(s, variance)))
        at_risk -= d + c
    below = (p.t for p in points if p.low is not None and p.low <= 0.5)
    ci = Interval(0.95, "brookmeyer-crowley, log-log", next(below, None), None)
    return Survival(
        id=name,
        label=label,
        population="enrolled",
        n=len(events) + len(censored),
        events=len(events),
        median=None,
        median_status="not_reached",
        ci=ci,
        landmarks=(*(_landmark(points, t) for t in (12.0, 24.0)), NO_LANDMARK),
        curve=tuple(points),
    )


NO_LANDMARK = Landmark(36.0, 3, None, None, "not_evaluable", "fewer than 5 at risk")


def _band(s: float, variance: float) -> tuple[float, float]:
    if s == 1:
        return 1.0, 1.0
    half = 1.959964 * sqrt(variance) / abs(log(s))
    return s ** exp(half), s ** exp(-half)


def _landmark(points: list[CurvePoint], t: float) -> Landmark:
    last = [p for p in points if p.t <= t][-1]
    left = sum(p.events + p.censored for p in points if p.t >= t)
    return Landmark(t, left, last.s, Interval(0.95, "log-log", last.low, last.high))


TYPE7 = "type 7 (Hyndman and Fan 1996)"
REVERSE = "reverse Kaplan-Meier (Schemper and Smith 1996), quartiles of the same curve"
QUANTILES = (
    Quantiles("baseline.age", "Age", "enrolled", 33, 62.0, 49.0, 74.0, "years", TYPE7),
    Quantiles(
        "treatment.surgery_to_adjuvant",
        "Surgery to adjuvant start",
        "adjuvant",
        26,
        36 / 7,
        25 / 7,
        6.0,
        "weeks",
        TYPE7,
    ),
    Quantiles("survival.follow_up", "Follow-up", "enrolled", 33, 463 / 30.4375, 6.8, 27.8, "months", REVERSE),
    Quantiles(
        "survival.follow_up@later_cut",
        "Follow-up, later cut",
        "enrolled",
        33,
        20.3,
        11.9,
        32.9,
        "months",
        REVERSE,
    ),
)
FLOW = (
    FlowStep("flow.screened", "Screened", "main", None, 45),
    FlowStep("flow.screened.stage", "Stage at baseline is not IIIA or IIIB", "excluded", "flow.screened", 5),
    FlowStep("flow.screened.alk", "ALK is not positive", "excluded", "flow.screened", 4),
    FlowStep("flow.screened.dose", "No dose of the study drug", "excluded", "flow.screened", 3),
    FlowStep("flow.enrolled", "Enrolled", "main", "flow.screened", 33),
    FlowStep("flow.enrolled.pd", "Not resected: progression before surgery", "excluded", "flow.enrolled", 2),
    FlowStep("flow.enrolled.other", "Not resected: other reason", "excluded", "flow.enrolled", 3),
    FlowStep("flow.resected", "Resected", "main", "flow.enrolled", 28),
    FlowStep("flow.resected.none", "No adjuvant treatment", "excluded", "flow.resected", 2),
    FlowStep("flow.adjuvant", "Began adjuvant treatment", "main", "flow.resected", 26),
    FlowStep("flow.adjuvant.rest", "Adjuvant course ongoing or stopped", "excluded", "flow.adjuvant", 21),
    FlowStep("flow.completed", "Completed the adjuvant course", "main", "flow.adjuvant", 5),
)
QUALITY = (
    QualityItem("milan", "Observation", "date given to the month only", 3),
    QualityItem("milan", "AdverseEvent", "term without a MedDRA code", 2),
    QualityItem("turin", "Patient", "line is not valid JSON: quarantined", 1),
)

"""Describe populations, endpoints and methods in words, from the parameters of a study and the released methods."""

from __future__ import annotations

from analytics.disclosure.control import Released
from analytics.estimates.design import ONE_STAGE, TWO_STAGES, design_test
from analytics.estimates.model import Interval
from analytics.report import wording
from mappers.study import Study

# What each method name of a result means, with its source. The names are part of results.json.
METHODS = {
    "clopper-pearson": "Exact two-sided interval of a proportion (Clopper and Pearson 1934).",
    "wilson": "Two-sided interval of a proportion by the score test, without continuity correction (Wilson 1927).",
    "jeffreys": "Two-sided interval of a proportion: equal tails of a Jeffreys prior (Brown, Cai and DasGupta 2001).",
    ONE_STAGE: "One-sided test of the number of responses against the null rate of the design.",
    TWO_STAGES: ("One-sided test against the null rate of the design; only ways that go on to the second stage count."),
    "log-log": (
        "Kaplan–Meier product limit; variance by Greenwood; pointwise interval on the log(−log) scale "
        "(Kalbfleisch and Prentice 1980)."
    ),
    "brookmeyer-crowley, log-log": (
        "Median survival is the smallest time with S(t) ≤ 0.5, or the middle of the plateau where S is exactly 0.5; "
        "its interval inverts the log(−log) Greenwood band in the same way (Brookmeyer and Crowley 1982)."
    ),
    "log-log on a life table of coarsened steps": (
        "Actuarial life table of steps of several events each (Cutler and Ederer 1958), so that no small count can be "
        "derived; variance by Greenwood; pointwise interval on the log(−log) scale."
    ),
    "brookmeyer-crowley, log-log on a life table of coarsened steps": (
        "Median survival is the end of the first step with S(t) ≤ 0.5; its interval inverts the log(−log) band of the "
        "life table."
    ),
    "type 7 (Hyndman and Fan 1996)": ("Median and quartiles by linear interpolation, the default of R and numpy."),
    "reverse Kaplan-Meier (Schemper and Smith 1996), quartiles of the same curve": (
        "Median follow-up: the Kaplan–Meier curve of the time to censoring, in which a death is censored."
    ),
}
NAMES = {
    "clopper-pearson": "Clopper–Pearson",
    "wilson": "Wilson",
    "jeffreys": "Jeffreys",
    ONE_STAGE: "Exact binomial test (A’Hern 2001)",
    TWO_STAGES: "Exact test of two stages (Simon 1989; Koyama and Chen 2008)",
    "log-log": "Greenwood, log(−log)",
    "brookmeyer-crowley, log-log": "Brookmeyer–Crowley, log(−log)",
    "log-log on a life table of coarsened steps": "Life table in coarse steps, log(−log)",
    "brookmeyer-crowley, log-log on a life table of coarsened steps": "Brookmeyer–Crowley on the life table",
    "type 7 (Hyndman and Fan 1996)": "Quantiles of type 7 (Hyndman and Fan 1996)",
    "reverse Kaplan-Meier (Schemper and Smith 1996), quartiles of the same curve": (
        "Reverse Kaplan–Meier (Schemper and Smith 1996), quartiles of the same curve"
    ),
}
# Rules of the program rather than of a study or an estimate.
ALWAYS = {
    "Rounding": "Every percentage and limit is rounded once, half up, from the exact value.",
    "Time": "Time 0 is the first dose. A month is 30.4375 days. Nothing dated after the data cutoff is used.",
    "Tied times": "An event and a censoring at the same time: the event comes first.",
    "Numbers at risk": (
        "Layout after KMunicate (Morris et al. 2019, BMJ Open 9:e030215): at risk at each time, events and "
        "censored before it, so that every column adds up to the population."
    ),
}


def methods(released: Released) -> tuple[tuple[str, str], ...]:
    """Return (name, explanation) of every method that the estimates name, then the rules that always hold."""
    intervals: list[Interval | None] = [p.ci for p in released.proportions]
    for curve in released.survival:
        intervals += [curve.ci, *(landmark.ci for landmark in curve.landmarks)]
    names = [ci.method for ci in intervals if ci is not None]
    names += [test.method for test in map(design_test, released.proportions) if test is not None]
    names += [quantity.method for quantity in released.quantiles if quantity.method]
    # A release made elsewhere may name a method that is not listed here: it keeps its own name.
    used = ((NAMES.get(name, name), METHODS.get(name, "As named.")) for name in dict.fromkeys(names))
    return (*used, *ALWAYS.items())


def populations(released: Released, study: Study) -> tuple[tuple[str, str, str], ...]:
    """Return (name, size, definition) of the populations of `released`."""
    drug, rules = study.treatment.drug, study.eligibility
    stages, alk = " or ".join(rules.stages), " or ".join(rules.alk).lower()
    texts = {
        "enrolled": f"Confirmed diagnosis, stage {stages} at baseline, ALK {alk}, at least a dose of {drug}.",
        "resected": "Enrolled, with a completed resection of the tumour after the first dose.",
        "adjuvant": f"Enrolled, with at least one dose of {drug} after surgery.",
    }
    sizes = {
        name: wording.WORDS["suppressed"] if n is None else str(n) for name, n in released.population_sizes.items()
    }
    return tuple((name, size, texts.get(name, "As defined by the study.")) for name, size in sizes.items())


def endpoints(study: Study) -> tuple[tuple[str, str], ...]:
    """Return (endpoint, definition) with the thresholds and choices of `study`."""
    safety = (
        f"Onset from the first dose of a phase to its last dose + {study.safety.window_days} days; each "
        "patient counts once per term and phase, at the worst CTCAE grade. Grade does not imply seriousness."
    )
    return (*_response(study).items(), *_survival(study).items(), ("Adverse events", safety))


def _response(study: Study) -> dict[str, str]:
    rules = study.response
    # From the values and not as fixed texts: the report of a study that changes a threshold must say so.
    scope = "primary tumour" if rules.mpr_scope == "primary" else "primary tumour and all resected nodes"
    reader = "blinded independent central review" if rules.prefer_evaluator == "BICR" else "investigator"
    tis = "; ypTis accepted" if rules.pcr_accepts_tis else ""
    return {
        "MPR": (
            f"Major pathological response: at most {rules.mpr_threshold_percent:g}{wording.SPACE}% viable "
            f"tumour in the {scope}; {reader} preferred. Not operated or not assessed: no response."
        ),
        "pCR": (
            f"Pathological complete response: no viable tumour in the primary and all sampled nodes (ypT0 N0{tis})."
        ),
        "Objective response": (
            "Best response CR or PR by imaging before surgery (RECIST 1.1), unconfirmed; else no response."
        ),
        "R0": "No residual tumour at the margins, of the resected; R1, R2 and RX are not R0.",
        "Nodal downstaging": "Pathological N after treatment below clinical N at baseline.",
    }


def _survival(study: Study) -> dict[str, str]:
    # Choices of the study: stated only where they are made.
    further = {
        "a resection with residual tumour (R1, R2)": study.events.r1_r2_is_event,
        "a disease status reported as worsened": study.events.worsened_is_progression,
    }
    more = "".join(f", {event}" for event, counts in further.items() if counts)
    undated = {
        "last_contact": "A death without a date counts on the day on which the patient was last known alive",
        "exclude": "A patient whose death has no date is not in the estimate",
    }[study.events.undated_death] + "; the data-quality list counts them."
    return {
        "Event-free survival": (
            "First dose to the first of progression that precludes surgery, recurrence, or death from any "
            f"cause{more}; else censored at the last tumour assessment. {undated}"
        ),
        "Overall survival": f"First dose to death from any cause; else censored when last known alive. {undated}",
    }

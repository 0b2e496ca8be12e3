"""Cohorts of any size, drawn from the patients of the built-in cohort, for the benchmark of disclosure control.

Each patient takes his course of treatment from one patient of the built-in cohort, and everything that is not linked
to it (sex, smoking, ECOG, stage, response in imaging, age, adverse events) from others, so that small counts occur
wherever they can. Times are moved by up to a seventh. Besides the adverse events of the source there are rare ones:
the more patients, the more terms that only a few have, some with a fatal grade.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analytics.estimates.cohort_tables import Cohort
from tests.unit.analytics_tables import alneo

# Columns of ADSL that are drawn together and apart from the course of treatment
APART = (["SEX"], ["AGE"], ["SMKSTAT"], ["ECOGBL"], ["STAGEBL", "TSTGBL", "NSTGBL"])
# Of the terms of CTCAE that a trial of a kinase inhibitor sees now and then; the chance of each, per patient and phase.
RARE = {
    f"{term} ({place})": chance
    for place in ("first", "second")
    for term, chance in {
        "Rash": 0.06,
        "Nausea": 0.05,
        "Oedema": 0.03,
        "Vomiting": 0.02,
        "Anaemia": 0.02,
        "Pneumonitis": 0.01,
        "Bradycardia": 0.01,
        "Dysgeusia": 0.005,
        "Vision blurred": 0.003,
        "Renal failure": 0.001,
    }.items()
}
GRADE_SHARES = (0.55, 0.28, 0.12, 0.04, 0.01)
PERIODS = {"NEOADJUVANT": "ITTFL", "ADJUVANT": "ADJSAFFL"}


def resampled(enrolled: int, seed: int) -> Cohort:
    """Return `enrolled` patients at both data cutoffs, and as many more who were screened in proportion."""
    source = alneo()
    draws = np.random.default_rng(seed)
    inside = source.adsl.loc[source.adsl["ITTFL"] == "Y", "USUBJID"].to_numpy()
    outside = source.adsl.loc[source.adsl["ITTFL"] != "Y", "USUBJID"].to_numpy()
    screened = round(enrolled * len(outside) / len(inside))
    new = pd.Index([f"R{i:07d}" for i in range(enrolled + screened)], name="USUBJID")
    course = np.concatenate([draws.choice(inside, enrolled), draws.choice(outside, screened)])
    others = [draws.permutation(enrolled) for _ in APART]
    factor = pd.Series(draws.uniform(6 / 7, 8 / 7, len(new)), index=new)
    imaging = draws.permutation(enrolled)
    events = _adverse_events(source, new, course, enrolled, draws)

    def made(cohort: Cohort) -> Cohort:
        chosen = pd.DataFrame({"USUBJID": course, "NEW": new})
        tables = {name: _drawn(cohort.table(name), chosen) for name in ("adsl", "adrs", "adtte")}
        adsl = tables["adsl"]
        for columns, order in zip(APART, others, strict=True):
            adsl.loc[: enrolled - 1, columns] = adsl.loc[order, columns].to_numpy()
        adrs = tables["adrs"]
        response = adrs["PARAMCD"] == "RSP"
        values = adrs[response].set_index("USUBJID")["AVALC"].reindex(new[:enrolled]).to_numpy()[imaging]
        adrs.loc[response, "AVALC"] = adrs.loc[response, "USUBJID"].map(dict(zip(new[:enrolled], values, strict=True)))
        adtte = tables["adtte"]
        adtte["AVAL"] *= adtte["USUBJID"].map(factor)
        cut = cohort.adsl["DCUTDT"].iloc[0]
        return replace(cohort, adsl=adsl, adrs=adrs, adtte=adtte, adae=events.assign(DCUTDT=cut))

    later = {name: made(cohort) for name, cohort in source.other_cutoffs.items()}
    return replace(made(source), other_cutoffs=later)


def _drawn(table: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the drawn patients, in their order, under their new names."""
    found = chosen.merge(table, on="USUBJID", how="inner", sort=False)
    return found.drop(columns="USUBJID").rename(columns={"NEW": "USUBJID"})


def _adverse_events(
    source: Cohort, new: pd.Index, course: np.ndarray, enrolled: int, draws: np.random.Generator
) -> pd.DataFrame:
    """Return each term of the source and each rare one, for patients at risk of it, by chance."""
    rows = []
    flags = source.adsl.set_index("USUBJID").loc[course[:enrolled]]
    for period, flag in PERIODS.items():
        at_risk = new[:enrolled][(flags[flag] == "Y").to_numpy()]
        size = int((source.adsl[flag] == "Y").sum())
        seen = source.adae[source.adae["APERIODC"] == period]
        terms = {term: (part["USUBJID"].nunique() / size, part) for term, part in seen.groupby("AEDECOD")}
        for term, (chance, part) in {**terms, **{t: (c, None) for t, c in RARE.items()}}.items():
            who = at_risk[draws.random(len(at_risk)) < chance]
            if part is None:
                grades = draws.choice(5, len(who), p=GRADE_SHARES) + 1
                blank = {"AEPTCD": None, "AESER": "N", "AREL": "NOT RELATED", "AOCC01FL": "Y", "TRTEMFL": "Y"}
                drawn = pd.DataFrame({"AEDECOD": term, "ATOXGRN": grades, "APERIODC": period, **blank}, index=who)
            else:
                drawn = part.iloc[draws.integers(0, len(part), len(who))].set_index(who).assign(AOCC01FL="Y")
            rows.append(drawn.drop(columns="USUBJID", errors="ignore").rename_axis("USUBJID").reset_index())
    return pd.concat([row for row in rows if len(row)], ignore_index=True)

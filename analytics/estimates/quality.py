"""Count what was missing, unmapped or set aside on the way to the cohort tables, by site, domain and issue."""

from __future__ import annotations

import pandas as pd

from analytics.errors import AnalysisError
from analytics.estimates.cohort_tables import Cohort
from analytics.estimates.model import QualityItem


def quality(cohort: Cohort) -> tuple[QualityItem, ...]:
    """Return the quality list in order of site, domain and issue; rows that agree in all three are added up."""
    frame = pd.DataFrame({c: cohort.column("quality", c) for c in ("SITEID", "DOMAIN", "ISSUE", "COUNT")})
    numbers = pd.to_numeric(frame["COUNT"], errors="coerce")
    if not ((numbers >= 0) & (numbers % 1 == 0)).all():
        raise AnalysisError(
            "quality", "COUNT", "a count is not a whole number of 0 or more", "correct it or remove the row"
        )
    # A blank site is a key as well; groupby would drop a missing one.
    keys = ["SITEID", "DOMAIN", "ISSUE"]
    frame = frame.assign(**{key: frame[key].fillna("").astype(str) for key in keys})
    counts = frame.groupby(keys, sort=True, as_index=False)["COUNT"].sum()
    return tuple(
        QualityItem(str(site), str(domain), str(issue), int(count))
        for site, domain, issue, count in counts[[*keys, "COUNT"]].itertuples(index=False)
    )

"""Write pooled results as JSON (``periop.pool/1``); rounded as in results.json."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from analytics.estimates.proportions import proportion_interval
from analytics.estimates.rounding import exact_percent, round_half_up
from analytics.pooling.pool import Pooled, PooledQuantiles
from analytics.pooling.proportions import Bounds, PooledProportion, SiteCount
from analytics.results import interval_json, quantile_json, survival_json

SCHEMA = "periop.pool/1"
Json = dict[str, Any]


def pooled_json(pooled: Pooled) -> Json:
    """Return the pooled results as plain data."""
    return {
        "schema": SCHEMA,
        "study": pooled.study.id,
        "data_cut": pooled.study.data_cut.isoformat(),
        "study_hash": pooled.study.hash,
        "sites": [
            {"site": site.name, "file": site.file, "release": site.results["release"], "min_cell": site.min_cell}
            for site in pooled.sites
        ],
        "notes": list(pooled.notes),
        "proportions": [_proportion(p, by_site=pooled.by_site) for p in pooled.proportions],
        "quantiles": [_quantiles(q) for q in pooled.quantiles],
        "survival": [survival_json(s.estimate) | {"suppressed_at": list(s.suppressed_at)} for s in pooled.survival],
        "flow": [
            {"id": step.id, "label": step.label, "kind": step.kind, "parent": step.parent, "n": step.n}
            | {"status": step.status}
            | ({"reason": step.reason} if step.reason else {})
            for step in pooled.flow
        ],
    }


def _proportion(p: PooledProportion, *, by_site: bool) -> Json:
    exact = p.exact and p.x is not None and p.n is not None
    found: Json = {
        "id": p.id,
        "label": p.label,
        "population": p.population,
        "x": p.x[0] if exact and p.x else None,
        "n": p.n[0] if exact and p.n else None,
        # From the counts and not from a float, which may lie on the wrong side of a half, as in results.json.
        "percent": _percent(exact_percent(p.x[0], p.n[0])) if exact and p.percent and p.x and p.n else None,
        "ci": interval_json(p.ci, 2),
        "status": p.status,
    }
    if p.reason:
        found["reason"] = p.reason
    if not p.exact and p.x and p.n and p.percent:
        percent = [_percent(limit) for limit in p.percent]
        found["bounds"] = {"x": list(p.x), "n": list(p.n), "percent": percent}
        found["suppressed_at"] = list(p.suppressed_at)
    if by_site and p.by_site:
        found["by_site"] = [_site(count, p) for count in p.by_site]
        if (h := p.heterogeneity) is not None:
            found["heterogeneity"] = {
                "q": _rounded(h.q), "df": h.df, "p": _rounded(h.p), "i_squared": _rounded(h.i_squared)
            }  # fmt: skip
    return found


def _site(count: SiteCount, p: PooledProportion) -> Json:
    # The bounds of a site are those of its population, which it shows; they say nothing more.
    if not count.known:
        return {"site": count.site.name, "x": None, "n": _single(count.n), "status": "suppressed"}
    x, n = count.x[0], count.n[0]
    ci = proportion_interval(x, n, p.ci.level, p.ci.method) if n and p.ci is not None else None
    return {"site": count.site.name, "x": x, "n": n, "ci": interval_json(ci, 2), "status": "ok"}


def _single(bounds: Bounds) -> int | None:
    return bounds[0] if bounds[0] == bounds[1] else None


def _quantiles(q: PooledQuantiles) -> Json:
    found = quantile_json(q.estimate)
    if q.medians is not None:
        found["medians_of_sites"] = list(q.medians)
    return found


def _percent(value: float | Fraction) -> float:
    return float(round_half_up(value, 4))


def _rounded(value: float) -> float:
    return float(round_half_up(value, 4))

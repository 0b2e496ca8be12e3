"""Pool the released results of several sites, and check that the pool gives none of them away.

Without the figures of single patients: counts add up, survival curves are rebuilt from risk tables, follow-up from the
curve of the same parameter. A median of other quantities lies between the medians of the sites; no more follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analytics.estimates.baseline import estimate_follow_up
from analytics.estimates.model import FlowStep, Quantiles
from analytics.pooling.proportions import PooledProportion, SiteCount, pool_proportion
from analytics.pooling.sites import Json, Site, read_sites
from analytics.pooling.survival import PooledSurvival, pool_survival, risk_table_times
from mappers.study import QuantileSpec, Study, SurvivalSpec

# With two sites each would read the other's figures off beside its own.
SITES_TO_SHOW = 3
WITHHELD = "with the figures of the other sites, the pool would tell a suppressed count of {}"
NOT_FROM_AGGREGATES = "a median does not follow from those of the sites"


@dataclass(frozen=True)
class PooledQuantiles:
    """n and missing values add up; `medians` are the least and the greatest of the sites, None where one has none."""

    estimate: Quantiles
    medians: tuple[float, float] | None
    suppressed_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pooled:
    """The pooled results of `sites`; with fewer than three of them no figure by site is shown."""

    study: Study
    sites: tuple[Site, ...]
    proportions: tuple[PooledProportion, ...]
    quantiles: tuple[PooledQuantiles, ...]
    survival: tuple[PooledSurvival, ...]
    flow: tuple[FlowStep, ...]

    @property
    def by_site(self) -> bool:
        """Return whether figures by site are shown."""
        return len(self.sites) >= SITES_TO_SHOW

    @property
    def protected(self) -> bool:
        """Return whether the sites suppressed small counts."""
        return self.sites[0].protected

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know of the sites and of the pool."""
        notes = [note for site in self.sites for note in site.notes()]
        if not self.protected:
            notes.append("No disclosure control: small counts are shown. Treat this as patient data.")
        if not self.by_site:
            notes.append("Fewer than three sites: only the pool is shown.")
        return tuple(notes)


def pool(documents: Sequence[tuple[str, Json]], study: Study) -> Pooled:
    """Pool the results.json of several sites, each with the name of its file. Raises `PoolingError`."""
    sites = read_sites(documents, study)
    # In the order of the first site; terms of adverse events that only others have come last.
    ids = dict.fromkeys(p["id"] for site in sites for p in site.results["proportions"])
    return Pooled(
        study,
        sites,
        tuple(audited(pool_proportion(identity, sites)) for identity in ids),
        tuple(_quantiles(spec, study, sites) for spec in study.quantiles),
        tuple(pool_survival(spec, sites) for spec in study.survival),
        tuple(_flow(sites)),
    )


def audited(figure: PooledProportion) -> PooledProportion:
    """Return the figure, or a withheld one where it would tell a suppressed count of a site to fewer than k values.

    The reader is taken to have the figures of all other sites, and subtracts them from the pool.
    """
    for count in figure.by_site:
        others = [other for other in figure.by_site if other is not count]
        if not count.known and _tells(figure, count, others):
            reason = WITHHELD.format(count.site.name)
            return replace(figure, x=None, n=None, percent=None, ci=None, by_site=(), heterogeneity=None, reason=reason)
    return figure


def _tells(figure: PooledProportion, count: SiteCount, others: Sequence[SiteCount]) -> bool:
    """Return whether x of one site lies within fewer than k values once the other sites are subtracted."""
    if figure.x is None:
        return False
    # What the site itself says of its count holds as well.
    low = max(count.x[0], figure.x[0] - sum(other.x[1] for other in others))
    high = min(count.x[1], figure.x[1] - sum(other.x[0] for other in others))
    return high - low + 1 < count.site.min_cell


def _quantiles(spec: QuantileSpec, study: Study, sites: Sequence[Site]) -> PooledQuantiles:
    found = [(site, site.figures("quantiles").get(spec.id)) for site in sites]
    shown = [q for _, q in found if q is not None and q["status"] != "suppressed"]
    suppressed = tuple(site.name for site, q in found if q is None or q["status"] == "suppressed")
    n, missing = (None if suppressed else sum(q[name] or 0 for q in shown) for name in ("n", "missing"))
    if (curve := _same_times(spec, study)) and not suppressed and not any(site.protected for site in sites):
        curves = [site.figures("survival")[curve.id] for site in sites]
        times = risk_table_times([each for each in curves if each["curve"]])
        return PooledQuantiles(estimate_follow_up(spec, times, (n or 0) + (missing or 0)), None)
    # Of sites without a median, not reached for instance, nothing bounds that of the pool.
    medians = [q["median"] for q in shown if q["median"] is not None]
    bounds = (min(medians), max(medians)) if medians and len(medians) == len(sites) else None
    reason = NOT_FROM_AGGREGATES if not suppressed else f"suppressed at {', '.join(suppressed)}"
    estimate = Quantiles(
        spec.id, spec.label, spec.population, n, None, None, None, spec.unit, "range of the medians of the sites",
        "not_evaluable", "not_evaluable", reason, missing,
    )  # fmt: skip
    return PooledQuantiles(estimate, bounds, suppressed)


def _same_times(spec: QuantileSpec, study: Study) -> SurvivalSpec | None:
    """Return the curve from whose risk table a follow-up by reverse Kaplan-Meier follows; None where there is none."""
    if spec.method != "reverse_km" or spec.cut is not None:
        return None
    same = (s for s in study.survival if (s.paramcd, s.population) == (spec.paramcd, spec.population))
    return next(same, None)


def _flow(sites: Sequence[Site]) -> list[FlowStep]:
    """Return the boxes of all sites added up; suppressed where a site suppresses its flow.

    A reason for leaving is left out, as in a release, where a site that protects counts does not list it.
    """
    boxes: dict[str, Json] = {}
    for site in sites:
        boxes |= {step["id"]: step for step in site.results["flow"] if step["id"] not in boxes}
    hidden = [site.name for site in sites if any(step["n"] is None for step in site.results["flow"])]
    found = []
    for step in _in_order(list(boxes.values())):
        listed = [site.figures("flow").get(step["id"]) for site in sites]
        # A reason that a site does not list is that of nobody there, or suppressed, which nobody outside can tell.
        if any(each is None and site.protected for each, site in zip(listed, sites, strict=True)):
            continue
        counts = [each["n"] if each else 0 for each in listed]
        named = (step["id"], step["label"], step["kind"], step["parent"])
        if hidden:
            if step["kind"] == "main":  # a reason is listed because somebody has it
                found.append(FlowStep(*named, None, "suppressed", f"suppressed at {', '.join(hidden)}"))
        else:
            found.append(FlowStep(*named, sum(counts)))
    return found


def _in_order(boxes: Sequence[Json]) -> list[Json]:
    """Return each box of the trunk with the reasons for leaving it, as the flow of one site has them."""
    trunk = [box for box in boxes if box["kind"] == "main"]
    left = [box for box in boxes if box["kind"] == "excluded"]
    ordered: list[Json] = []
    for box in trunk:
        ordered += [box, *sorted((each for each in left if each["parent"] == box["id"]), key=lambda each: each["id"])]
    return ordered

"""Add up proportions over sites: exact where every site shows its counts, else as bounds.

A suppressed count is any number from 0 to the patients of its population there; nothing tighter is said, so that the
pool tells of a site no more than the site did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from analytics.estimates.model import Interval
from analytics.estimates.proportions import INTERVALS, proportion_interval
from analytics.estimates.rounding import exact_percent
from analytics.pooling.sites import Json, Site

Bounds = tuple[int, int]
NOWHERE = "suppressed at every site"


@dataclass(frozen=True)
class SiteCount:
    """x of n patients at one site, as bounds; both ends are equal where the site shows them."""

    site: Site
    x: Bounds
    n: Bounds

    @property
    def known(self) -> bool:
        """Return whether the site shows both counts."""
        return self.x[0] == self.x[1] and self.n[0] == self.n[1]


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q of the proportions of `df` + 1 sites, its `p`, and I² in percent (Higgins and Thompson 2002)."""

    q: float
    df: int
    p: float
    i_squared: float


@dataclass(frozen=True)
class PooledProportion:
    """x of n patients over all sites. Where a site suppressed its count, x, n and percent are bounds, and the interval
    `ci` is the hull of those of all counts within them. `reason` says why there is no figure."""

    id: str
    label: str
    population: str
    x: Bounds | None
    n: Bounds | None
    percent: tuple[float, float] | None
    ci: Interval | None
    by_site: tuple[SiteCount, ...] = ()
    heterogeneity: Heterogeneity | None = None
    reason: str | None = None

    @property
    def exact(self) -> bool:
        """Return whether x and n are known."""
        return self.x is not None and self.n is not None and self.x[0] == self.x[1] and self.n[0] == self.n[1]

    @property
    def status(self) -> str:
        """Return ``ok``, ``bounds``, ``suppressed`` at every site, or ``not_evaluable``."""
        if self.percent is None:
            return "suppressed" if self.reason == NOWHERE else "not_evaluable"
        return "ok" if self.exact else "bounds"

    @property
    def suppressed_at(self) -> tuple[str, ...]:
        """Return the names of the sites whose count is a bound."""
        return tuple(count.site.name for count in self.by_site if not count.known)


def pool_proportion(identity: str, sites: Sequence[Site]) -> PooledProportion:
    """Return the pooled figure `identity`, which at least one site has."""
    found = [site.figures("proportions").get(identity) for site in sites]
    first = next(figure for figure in found if figure is not None)
    label, population = first["label"], first["population"]
    counts: list[SiteCount] = []
    for site, figure in zip(sites, found, strict=True):
        if (count := _count(site, figure, population)) is None:
            reason = (figure or {}).get("reason") or f"nothing shows how many patients are {population}"
            return PooledProportion(
                identity, label, population, None, None, None, None, reason=f"{site.name}: {reason}"
            )
        counts.append(count)
    return _pooled(identity, label, population, counts, next((f["ci"] for f in found if f and f.get("ci")), None))


def _count(site: Site, figure: Json | None, population: str) -> SiteCount | None:
    if figure is not None and figure["x"] is not None and figure["n"] is not None:
        return SiteCount(site, (figure["x"], figure["x"]), (figure["n"], figure["n"]))
    # No table at this cutoff, for instance: not even a bound.
    if figure is not None and figure["status"] == "not_evaluable":
        return None
    # An adverse event that is not listed happened to nobody there, or is suppressed with all of its table.
    size = figure["n"] if figure is not None and figure["n"] is not None else site.size(population)
    if size is not None:
        return SiteCount(site, (0, size if site.protected else 0), (size, size))
    # Every population is a part of the enrolled.
    everybody = site.size("enrolled")
    return None if everybody is None else SiteCount(site, (0, everybody), (0, everybody))


def _pooled(identity: str, label: str, population: str, counts: list[SiteCount], ci: Json | None) -> PooledProportion:
    x = (sum(count.x[0] for count in counts), sum(count.x[1] for count in counts))
    n = (sum(count.n[0] for count in counts), sum(count.n[1] for count in counts))
    if n[1] == 0:
        reason = f"no patient in population {population}"
        return PooledProportion(identity, label, population, x, n, None, None, tuple(counts), reason=reason)
    if not any(count.known for count in counts):
        return PooledProportion(identity, label, population, None, None, None, None, tuple(counts), reason=NOWHERE)
    # The ends of x/n: nobody of those who are not shown has it, and all of them have it.
    # Where n is not shown either, those who would have it are part of it, and nobody else need be.
    low, high = (x[0], n[1]), (x[1], sum(max(count.n[0], count.x[1]) for count in counts))
    percent = (float(exact_percent(*low)), float(exact_percent(*high)))
    interval = None
    # A site without patients has no interval, so that any site may be the one to name method and level.
    if ci is not None and ci["method"] in INTERVALS:
        ends = [proportion_interval(count, of, ci["level"], ci["method"]) for count, of in (low, high)]
        interval = Interval(ci["level"], ci["method"], ends[0].low, ends[1].high)
    return PooledProportion(identity, label, population, x, n, percent, interval, tuple(counts), heterogeneity(counts))


def heterogeneity(counts: Sequence[SiteCount]) -> Heterogeneity | None:
    """Return how much the proportions of three or more sites differ; None for fewer, or where all or none have it.

    Q is Pearson's chi-squared of the sites by outcome table (Cochran 1954), I² = max(0, 1 - df/Q).
    """
    shown = [(count.x[0], count.n[0]) for count in counts if count.known and count.n[0] > 0]
    x, n = sum(a for a, _ in shown), sum(b for _, b in shown)
    if len(shown) < 3 or any(not count.known for count in counts) or x in (0, n):
        return None
    # With the pooled p in the variance a site where nobody has it needs no correction.
    p = x / n
    q = sum(b * (a / b - p) ** 2 for a, b in shown) / (p * (1 - p))
    df = len(shown) - 1
    return Heterogeneity(q, df, float(stats.chi2.sf(q, df)), max(0.0, 100 * (1 - df / q)) if q > 0 else 0.0)

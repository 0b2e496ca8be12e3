"""A reader of a pool and of the releases of all sites but one subtracts them, and finds no small count of that site."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from analytics.analysis import analyse
from analytics.disclosure.control import release
from analytics.pooling.pool import Pooled, pool
from analytics.results import dumps
from tests.chains import APART, STUDY, Found, Reader, facts, group_of, published, without_adverse_events
from tests.resampled import resampled

K = 5
SIZES = {"milan": 70, "rome": 60, "turin": 40}


def numbers(pooled: Pooled) -> dict[str, int]:
    """Every number of patients that a pool shows exactly, by what it counts."""
    found: dict[str, int | None] = {p.id: p.x[0] for p in pooled.proportions if p.exact and p.x}
    found |= {step.id: step.n for step in pooled.flow}
    # A curve that a site suppresses is that of the others, and says so: no equation of this site.
    for s in (each.estimate for each in pooled.survival if not each.suppressed_at):
        found[f"{s.id}.events"] = s.events
        events = left = 0
        for point in s.curve:
            events, left = events + point.events, left + point.events + point.censored
            found |= {f"{s.id}.events@{point.t:g}": events, f"{s.id}.left@{point.t:g}": left}
    return {name: count for name, count in found.items() if count is not None}


@pytest.mark.parametrize("min_cell", [K, 0])
def test_fault_152_a_pool_minus_the_other_sites_tells_no_small_count_of_one(min_cell: int) -> None:
    cohorts = {s: without_adverse_events(resampled(n, seed)) for seed, (s, n) in enumerate(SIZES.items(), 5)}
    documents: list[tuple[str, dict[str, Any]]] = []
    for site, cohort in cohorts.items():
        cohort.adsl["SITEID"] = site
        documents.append((f"{site}.json", orjson.loads(dumps(release(analyse(cohort, STUDY), min_cell), 1))))
    in_pool = numbers(pool(documents, STUDY))
    told = [published(document | {"populations": {}}) for _, document in documents]
    found, draws = Found(), np.random.default_rng(3)
    elsewhere = without_adverse_events(resampled(200, 9))
    for site, cohort in cohorts.items():
        others = [each for each, (name, _) in zip(told, documents, strict=True) if name != f"{site}.json"]
        known = {n: x - sum(o[n] for o in others) for n, x in in_pool.items() if all(n in o for o in others)}
        known["n.enrolled"] = SIZES[site]  # how many a site enrolled is no secret
        steps = {name for name in known if ".events@" in name or ".left@" in name}
        behind, possible = facts(cohort, STUDY, steps), facts(elsewhere, STUDY, steps)
        for group in (*APART, ""):
            names = [name for name in behind if group_of(name) in {group, "n"} and name in possible]
            reader = Reader(names, behind, possible, (frozenset(cohort.adsl["USUBJID"]),), [known])
            targets = list(reader.small_counts(K))
            for place in draws.permutation(len(targets))[:10]:
                reader.try_to_find(targets[place], K, found)
    assert found.protected > 30
    if min_cell:
        assert (found.found_out, found.narrowed, found.undecided, found.named) == (0, 0, 0, ())
    else:  # the same reader finds what nobody protects
        assert found.found_out > 0

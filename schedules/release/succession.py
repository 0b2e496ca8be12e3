"""Compare a release with one that left the hospital before: which counts moved by 1 to k - 1 patients?

Who holds both can subtract them: one new patient between two nights is read off in every figure that he moved. So each
published count, and what is left of its total, must be as it was or have moved by at least k. Counts that can be
subtracted within one release (populations, boxes of the flow, two curves) must have done so together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from analytics.disclosure.figures import quality_name
from analytics.estimates.rounding import round_half_up

Json = Mapping[str, Any]
Name = tuple[str, str, str]  # section, id and statistic
Steps = dict[float, tuple[int, int, int]]  # by month


@dataclass(frozen=True)
class Move:
    """A count that moved by 1 to k - 1 since `release`: its `section`, `id` and `statistic`, `before` and `after`."""

    release: int
    section: str
    id: str
    statistic: str
    before: float
    after: float


def small_moves(before: Json, after: Json, k: int) -> tuple[Move, ...]:
    """Return the counts of two results.json that differ by 1 to k - 1; medians that differ while no count does.

    A figure is compared where both show it. What one of them does not list (a term of an adverse event, a reason for
    leaving) is 0 there or suppressed, and nobody can tell which; where it is listed it is at least k.
    """
    release = int(before.get("release") or 0)
    old, new = dict(_counts(before)), dict(_counts(after))
    moves = [
        Move(release, section, identity, statistic, was, now)
        for (section, identity, statistic), now in new.items()
        if now is not None and (was := old.get((section, identity, statistic))) is not None and 0 < abs(now - was) < k
    ]
    return (*moves, *_curve_moves(before, after, k, release), *_median_moves(before, after, release))


def _counts(results: Json) -> Iterator[tuple[Name, int | None]]:
    for p in results.get("proportions", ()):
        x, n = p.get("x"), p.get("n")
        # Who did not respond is a count too, and may move when x does not.
        rest = None if x is None or n is None else n - x
        yield from _named("proportions", p["id"], x=x, n=n, rest=rest)
    for q in results.get("quantiles", ()):
        yield from _named("quantiles", q["id"], n=q.get("n"), missing=q.get("missing"))
    curves = results.get("survival", ())
    for s in curves:
        n, events = s.get("n"), s.get("events")
        rest = None if n is None or events is None else n - events
        yield from _named("survival", s["id"], n=n, events=events, rest=rest)
        for mark in s.get("landmarks", ()):
            yield ("survival", s["id"], f"at risk at {mark['t']} months"), mark.get("at_risk")
    # Who dies has an event too: the events of one curve less those of another are patients.
    for a, b in combinations(curves, 2):
        yield ("survival", a["id"], f"events less those of {b['id']}"), _difference(a.get("events"), b.get("events"))
    yield from _flow(results.get("flow", ()))
    yield from _populations(results)
    for item in results.get("quality", ()):
        name = quality_name(item["site"], item["domain"], item["issue"])
        yield ("quality", name, "count"), item.get("count")


def _named(section: str, identity: str, **counts: int | None) -> Iterator[tuple[Name, int | None]]:
    for statistic, count in counts.items():
        yield (section, identity, statistic), count


def _flow(steps: Any) -> Iterator[tuple[Name, int | None]]:
    for step in steps:
        yield ("flow", step["id"], "n"), step.get("n")
        children = [child.get("n") for child in steps if child.get("parent") == step["id"]]
        if children and None not in children:
            # Those of a box who neither went on nor left are not shown, and are a count all the same.
            yield ("flow", step["id"], "rest"), _difference(step.get("n"), sum(children))


def _populations(results: Json) -> Iterator[tuple[Name, int | None]]:
    sizes = sorted(population_sizes(results).items())
    for name, size in sizes:
        yield ("populations", name, "n"), size
    for (a, in_a), (b, in_b) in combinations(sizes, 2):
        yield ("populations", a, f"less {b}"), _difference(in_a, in_b)


def population_sizes(results: Json) -> dict[str, int | None]:
    """Return the sizes of the populations that a release shows.

    `populations` is in the release ledger; else they are the n of the proportions at the main data cutoff.
    """
    if results.get("populations"):
        return dict(results["populations"])
    shown = (p for p in results.get("proportions", ()) if p.get("n") is not None and "@" not in p["id"])
    sizes: dict[str, int | None] = {}
    for p in shown:
        sizes[p["population"]] = max(sizes.get(p["population"]) or 0, p["n"])
    return sizes


def _difference(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


def _curve_moves(before: Json, after: Json, k: int, release: int) -> Iterator[Move]:
    """Yield the counts of a curve that moved by 1 to k - 1, at each step of either release."""
    old, new = ({s["id"]: s for s in each.get("survival", ()) if s.get("curve")} for each in (before, after))
    for identity in (each for each in new if each in old):
        steps = [_steps(curves[identity]) for curves in (old, new)]
        for t in sorted({*steps[0], *steps[1]}):
            for place, statistic in enumerate(("events", "censored", "left")):
                (low, high), (new_low, new_high) = (_range(each, t, place) for each in steps)
                # A coarsened curve without a step here gives a range: what lies in it may have moved by nobody.
                gap = max(new_low - high, low - new_high)
                if 0 < gap < k:
                    yield Move(release, "survival", identity, f"{statistic} by {t:g} months", low, new_low)


def _steps(survival: Json) -> Steps:
    """Return the events, the censorings and both by each step; nobody at 0, everybody at the end of time."""
    events = censored = 0
    found: Steps = {0.0: (0, 0, 0)}
    for point in survival["curve"]:
        events, censored = events + point["events"], censored + point["censored"]
        found[float(point["t"])] = (events, censored, events + censored)
    # After the last step only the totals are known.
    n, total = survival["n"], survival["events"]
    return found | {math.inf: (total, n - total, n)}


def _range(steps: Steps, t: float, place: int) -> tuple[int, int]:
    times = list(steps)  # in their order, as in the curve
    last = bisect_right(times, t) - 1
    following = last if times[last] == t else last + 1
    return steps[times[last]][place], steps[times[following]][place]


def _median_moves(before: Json, after: Json, release: int) -> Iterator[Move]:
    """Yield the medians and quartiles that changed while their n did not: of how many patients, nobody knows."""
    old = {q["id"]: q for q in before.get("quantiles", ())}
    for q in after.get("quantiles", ()):
        was = old.get(q["id"], q)
        if q.get("n") is None or was.get("n") != q["n"]:
            continue
        for name in ("median", "q1", "q3"):
            a, b = was.get(name), q.get(name)
            # A release without disclosure control has more decimals than one with it.
            if a is not None and b is not None and round_half_up(a, 1) != round_half_up(b, 1):
                yield Move(release, "quantiles", q["id"], name, a, b)

"""Coarsen a survival curve so that it discloses no small count: a life table in steps of at least k events.

S, its band and its median are computed from the counts of the steps alone, so that they disclose no more than
those: the actuarial estimate (Cutler and Ederer 1958), censored patients at risk for half of a step, variance
by Greenwood (1926), log(-log) band. Without censoring within a step it equals the product limit at its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from scipy import stats

from analytics.disclosure.model import is_protected
from analytics.estimates.model import CurvePoint, Landmark, MedianStatus, Survival
from analytics.estimates.survival import TOLERANCE, crossing, landmark_interval, median_interval

BAND = "log-log on a life table of coarsened steps"
MEDIAN_CI = "brookmeyer-crowley, log-log on a life table of coarsened steps"
NO_STEP = "the coarsened curve has no step here"
LAST_EVENTS = "the last events are too few to show"


@dataclass(frozen=True)
class Counts:
    """`events` and `censored` since the step before, up to `t` months."""

    t: float
    events: int
    censored: int


def step_times(exact: Survival, k: int) -> tuple[float, ...] | None:
    """Return the months at which the coarsened curve can have a step; None where its totals are protected.

    A step is closed when at least k events, and either no or at least k censorings, have happened since the one
    before; at a landmark whenever that holds there. Any of them can be left out: its counts join those of the next.
    """
    if exact.n is None or exact.events is None:
        return None
    times = tuple(sorted(landmark.t for landmark in exact.landmarks))
    steps = _without_small_rest(_steps(_grouped(exact.curve, times), times, k), exact.n, exact.events, k)
    return None if steps is None else tuple(step.t for step in steps)


def coarsen(exact: Survival, ends: Iterable[float]) -> Survival:
    """Return `exact` with its curve in steps that end at `ends`, and all else computed from them."""
    if exact.n is None or exact.events is None or exact.ci is None or exact.n == 0:
        return exact
    steps = list(_joined(_grouped(exact.curve, tuple(mark.t for mark in exact.landmarks)), sorted(ends)))
    level = exact.ci.level
    points = life_table(exact.n, steps, level)
    complete = sum(step.events for step in steps) == exact.events
    median = crossing(points, 0.5)
    # A curve that ends early and above one half may have a median in the part that is not shown.
    status: MedianStatus = "ok" if median is not None else "not_reached" if complete else "suppressed"
    interval = median_interval(points, level, MEDIAN_CI)
    return replace(
        exact,
        median=median,
        median_status=status,
        # "No upper limit" would be a statement about the part that is not shown.
        ci=interval if complete or interval.high is not None else None,
        landmarks=tuple(_landmark(landmark, points, level) for landmark in exact.landmarks),
        curve=points,
        reason=LAST_EVENTS if status == "suppressed" else None,
    )


def _grouped(curve: Iterable[CurvePoint], landmarks: tuple[float, ...]) -> list[Counts]:
    """Return the counts of `curve` by month (ceiling), a landmark within the month ending its part of it."""
    found: dict[float, Counts] = {}
    for point in curve:
        # The day of an event may be known from elsewhere; its month tells much less.
        month = float(math.ceil(point.t - TOLERANCE))
        t = min((month, *(landmark for landmark in landmarks if landmark >= point.t - TOLERANCE)))
        events, censored = (found[t].events, found[t].censored) if t in found else (0, 0)
        found[t] = Counts(t, events + point.events, censored + point.censored)
    return [found[t] for t in sorted(found) if found[t].events or found[t].censored]


def _joined(grouped: list[Counts], ends: Iterable[float]) -> Iterator[Counts]:
    """Yield the counts of `grouped` between the times `ends`; what comes after the last is left out."""
    before = -1.0
    for end in ends:
        events, censored = _total(part for part in grouped if before < part.t <= end)
        yield Counts(end, events, censored)
        before = end


def _total(counts: Iterable[Counts]) -> tuple[int, int]:
    listed = tuple(counts)
    return sum(c.events for c in listed), sum(c.censored for c in listed)


def _is_step(events: int, censored: int, k: int) -> bool:
    return events >= k and not is_protected(censored, k)


def _steps(grouped: list[Counts], landmarks: tuple[float, ...], k: int) -> list[Counts]:
    """Return steps within each stretch between landmarks that can be one as a whole; the rest step by step."""
    found: list[Counts] = []
    waiting = grouped
    for landmark in landmarks:
        stretch = [counts for counts in waiting if counts.t <= landmark]
        # A landmark that cannot end a step leaves its counts to the next stretch, and is not shown.
        if _is_step(*_total(stretch), k):
            found += _ending_at(landmark, stretch, k)
            waiting = waiting[len(stretch) :]
    return found + _greedy(waiting, k)


def _greedy(counts: list[Counts], k: int) -> list[Counts]:
    found: list[Counts] = []
    begun: list[Counts] = []
    for part in counts:
        begun.append(part)
        events, censored = _total(begun)
        if _is_step(events, censored, k):
            found.append(Counts(part.t, events, censored))
            begun = []
    return found


def _ending_at(landmark: float, stretch: list[Counts], k: int) -> list[Counts]:
    """Return steps that use up the stretch and end at the landmark. The stretch as a whole must be a step."""
    events, censored = _total(stretch)
    kept = _greedy(stretch, k)
    while True:
        # The last step takes what is left up to the landmark; where that is no step, it takes the one before too.
        kept.pop()
        before_events, before_censored = _total(kept)
        last = Counts(landmark, events - before_events, censored - before_censored)
        if _is_step(last.events, last.censored, k):
            return [*kept, last]


def _without_small_rest(steps: list[Counts], n: int, events: int, k: int) -> list[Counts] | None:
    """Return `steps` less as many at the end as it takes; None where even the totals are protected.

    What remains after the last step is shown by no step, but the totals are published: the difference is a pair
    of counts, each of which must be 0 or at least k.
    """
    for end in range(len(steps), -1, -1):
        shown_events, shown_censored = _total(steps[:end])
        rest = events - shown_events, n - events - shown_censored
        if not any(is_protected(count, k) for count in rest):
            return steps[:end]
    return None


def life_table(n: int, steps: Iterable[Counts], level: float) -> tuple[CurvePoint, ...]:
    """Return the actuarial estimate at the end of each step, from `n` patients at 0, with its band."""
    points = [CurvePoint(0.0, n, 0, 0, 1.0, 1.0, 1.0)]
    z = float(stats.norm.isf((1 - level) / 2))
    s, variance = 1.0, 0.0
    for step in steps:
        # When in the step patients were censored is not known: on average half way.
        exposed = n - step.censored / 2
        s *= 1 - step.events / exposed
        if exposed > step.events:
            variance += step.events / (exposed * (exposed - step.events))
        low = high = None
        # The log(-log) band, S to the power of exp(± width / log S), does not exist where S is 0.
        if s > TOLERANCE:
            theta = z * math.sqrt(variance) / abs(math.log(s))
            low, high = s ** math.exp(theta), s ** math.exp(-theta)
        points.append(CurvePoint(step.t, n, step.events, step.censored, s, low, high))
        n -= step.events + step.censored
    return tuple(points)


def _landmark(exact: Landmark, points: tuple[CurvePoint, ...], level: float) -> Landmark:
    """Return S at a landmark that is the end of a step with patients left after it; else it is suppressed."""
    step = next((point for point in points[1:] if point.t == exact.t), None)
    if step is None or (left := step.at_risk - step.events - step.censored) == 0:
        return Landmark(exact.t, None, None, None, "suppressed", NO_STEP)
    if exact.status != "ok":
        return replace(exact, at_risk=None)
    return Landmark(exact.t, left, step.s, landmark_interval(step, level, BAND))

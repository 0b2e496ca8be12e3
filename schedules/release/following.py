"""Make a release that can stand beside all that left before, by withholding what they would give away together with it.

Two rules hold: the audit over the linear model of all releases together (`analytics.disclosure`), which knows the
patients behind each of them; and figure by figure (`schedules.release.succession`), which needs no patients and so
still holds where they were erased, or belong to a release of an earlier version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analytics.disclosure.figures import SIZE
from schedules.release.succession import Json, Move, small_moves

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from analytics.disclosure.past import CountedPatients
    from analytics.estimates.model import Results

ROUNDS = 8
ENROLLED = ("populations", "enrolled", "n")


@dataclass(frozen=True)
class Analysis:
    """The estimates: after disclosure control (`released`), and everything, for the hospital only (`internal`).

    `results` are those before disclosure control, which is done again where other releases left before. `counted` are
    the patients behind the counts of `released`.
    """

    released: Released
    internal: Released
    results: Results
    counted: CountedPatients


@dataclass(frozen=True)
class PastRelease:
    """A release that left before: its results.json, and the patients behind it where they are known."""

    number: int
    figures: Json
    patients: CountedPatients | None = None


@dataclass(frozen=True)
class Unsafe:
    """A release that waits: its `moves` by too few since past `releases`; none where only all figures together tell."""

    moves: tuple[Move, ...]
    releases: tuple[int, ...]


def follow(
    analysis: Analysis, past: Sequence[PastRelease], k: int, current: int | None, least_share: float
) -> Analysis | Unsafe:
    """Return `analysis` with what may be released after the `past` releases, or why nothing may.

    Args:
        analysis: the estimates, with what may be released if nothing had left before.
        past: all releases that ever left, also withdrawn ones, in their order.
        k: the threshold of today, at least 2.
        current: the number of the release that would be replaced, None where there is none.
        least_share: of what it would show by itself. Each release fixes figures for all later ones, so that one of
            which little is left is not worth it.
    """
    from analytics.disclosure.control import release_after

    alone = analysis.released
    moves = _moves(alone, past, k)
    unsafe = Unsafe(moves, tuple(sorted({move.release for move in moves})) or tuple(each.number for each in past))
    # How many are enrolled is known anyway, so that nothing can be withheld that would hide it.
    if any((move.section, move.id, move.statistic) == ENROLLED for move in moves):
        return unsafe
    patients = {each.number: each.patients for each in past if each.patients is not None}
    last = next((each.figures for each in past if each.number == current), {})
    withhold: frozenset[str] = frozenset()
    for _ in range(ROUNDS):
        released, counted = release_after(analysis.results, alone.min_cell, patients, withhold)
        if released.refusal:
            return unsafe
        left = _moves(released, past, k)
        named = {name for move in left for name in _names(move, analysis.results)}
        if named and named <= withhold:
            named = {move.id for move in left}  # a step that is none of the new curve: it goes with its curve
        if not named:
            worth = _share(released, alone) >= least_share and _says_something_new(released, last)
            return replace(analysis, released=released, counted=counted) if worth else unsafe
        if named <= withhold:
            return unsafe
        withhold |= named
    return unsafe


def as_figures(released: Released, number: int) -> dict[str, Any]:
    """Return the content of results.json, with the sizes of the populations that the report shows."""
    from analytics.results import as_json

    return as_json(released, number) | {"populations": dict(released.population_sizes)}


def _moves(released: Released, past: Sequence[PastRelease], k: int) -> tuple[Move, ...]:
    figures = as_figures(released, 0)
    return tuple(move for each in past for move in small_moves(each.figures, figures, k))


def _names(move: Move, results: Results) -> Iterator[str]:
    """Yield the ids of the counts and figures without which a reader does not see a move."""
    match move.section:
        case "populations":
            # The smaller of two: the other may be all who are enrolled.
            smaller = move.statistic.removeprefix("less ")
            yield f"{SIZE}{move.id if smaller in {'n', 'enrolled'} else smaller}"
        case "survival" if move.statistic.endswith(" months"):  # events by 12 months
            yield f"{move.id}@{float(move.statistic.split()[-2]):g}"
        case "proportions" if move.statistic == "n":
            yield move.id
            yield from (cell.population for cell in results.cells if cell.id.partition("#")[0] == move.id)
        case _:
            yield move.id


def _share(released: Released, alone: Released) -> float:
    """Return the share of the figures that the study names and `alone` shows that `released` shows too."""
    shown, all_shown = (
        {e.id for e in each.estimates if e.status == "ok" and ".worst_grade_" not in e.id} for each in (released, alone)
    )
    return len(shown & all_shown) / len(all_shown) if all_shown else 0.0


def _says_something_new(released: Released, last: Json) -> bool:
    """Return whether a shown estimate is not in the last release as it is now."""
    figures = as_figures(released, 0)
    return any(
        each["status"] == "ok" and each not in last.get(section, ())
        for section in ("proportions", "quantiles", "survival")
        for each in figures[section]
    )

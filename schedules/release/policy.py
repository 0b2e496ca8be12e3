"""Decide whether a release leaves the house now, and say in a sentence without counts why not.

no figure changed                                        nothing to do
its figures were withdrawn                               wait
at_cutoffs, and no declared date has passed              wait
a count moved by 1 to k - 1 since any past release       wait, disclosure control
far fewer patients than in the last release              an error, until a person accepts it
otherwise                                                publish
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from schedules.errors import PublishError
from schedules.release.publish import current_release, has_figures_of, releases
from schedules.release.release_ledger import Entry, ReleaseLedger
from schedules.release.succession import Move, population_sizes, small_moves

if TYPE_CHECKING:
    from pathlib import Path

    from analytics.disclosure.control import Released
    from schedules.config.settings import Settings


@dataclass(frozen=True)
class Waiting:
    """A release that is not made, and why. `current` is the number and `path` the folder of the release that stays.

    `by_disclosure_control`: a reader of past releases could subtract, as against a date that is not there yet.
    """

    reason: str
    by_disclosure_control: bool
    current: int | None = None
    path: Path | None = None
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The wishes of a person: a release `now`, without a declared date; to accept a fall of the enrolled patients."""

    now: bool = False
    accept_fall: bool = False


AS_CONFIGURED = Asked()


def waiting(
    settings: Settings, released: Released, ledger: ReleaseLedger, today: date, asked: Asked = AS_CONFIGURED
) -> Waiting | None:
    """Return why `released` is not published today, None where it is.

    Raises `PublishError` where far fewer patients are enrolled than in the last release, and `LedgerError` where the
    release ledger is damaged.
    """
    from analytics.disclosure.control import threshold
    from analytics.results import as_json

    current, past = current_release(settings.releases_dir), ledger.past()
    folder = settings.releases_dir / str(current) if current is not None else None
    # Before all else: the same figures once more tell nothing new, whatever the mode. The highest may be newer than
    # `current`, after a kill between the two steps, and is then to be made current.
    there = {current, *releases(settings.releases_dir)[-1:]} - {None}
    if any(has_figures_of(settings.releases_dir / str(number), released) for number in there):
        return None
    if not asked.now and (number := _withdrawn_before(released, ledger)):
        said = f"The figures are those of release {number}, which was withdrawn; `periop publish --now` releases them."
        return Waiting(said, False, current, folder)
    # Without a threshold nothing is protected within a release, so nothing between two.
    k = threshold(released.min_cell)
    if k and settings.release.mode == "at_cutoffs" and not asked.now:
        # An entry whose folder is not there was left by a kill: the date still has no release.
        made = {entry.release for entry in past} & ({*releases(settings.releases_dir)} | ledger.withdrawn())
        done = [entry for entry in past if entry.release in made]
        if reason := not_due(settings, released.study, released.data_cutoff, done, today):
            return Waiting(reason, False, current, folder)
    results = as_json(released, 0) | {"populations": dict(released.population_sizes)}
    # All of them, also withdrawn ones and those of other rules: what was read cannot be taken back.
    moves = tuple(move for entry in past for move in small_moves(entry.results or {}, results, k)) if k else ()
    if moves:
        return Waiting(_would_disclose(moves, k), True, current, folder, moves)
    # Last, so that a fall is an error only where accepting it makes the release, and the next night is quiet.
    if not asked.accept_fall:
        withdrawn = ledger.withdrawn()
        _refuse_a_fall(settings, released, [entry for entry in past if entry.release not in withdrawn])
    return None


def _withdrawn_before(released: Released, ledger: ReleaseLedger) -> int | None:
    """Return the release with these figures that was withdrawn, None where there is none."""
    import orjson

    from analytics.results import dumps, same_figures

    withdrawn = ledger.withdrawn()
    for entry in (each for each in ledger.past() if each.release in withdrawn):
        content = {name: value for name, value in (entry.results or {}).items() if name != "populations"}
        if same_figures(orjson.dumps(content), dumps(released, entry.release)):
            return entry.release
    return None


def not_due(settings: Settings, study: str, data_cutoff: str, past: list[Entry], today: date) -> str | None:
    """Return why no release is due by the declared dates, None where one is.

    The dates are the data cutoff of the study, which has one release when it has come, and each of
    `release.release_on`, which has one release on that day or the first run after it.
    """
    cutoff, zone = date.fromisoformat(data_cutoff), ZoneInfo(settings.schedule.timezone)
    days = {entry.release: entry.when.astimezone(zone).date() for entry in past}
    of_this = [entry for entry in past if (entry.study, entry.data_cut) == (study, data_cutoff)]
    at_cutoff = [entry for entry in of_this if days[entry.release] >= cutoff]
    if today >= cutoff and not at_cutoff:
        return None
    # A release that a person made in between is that of the declared days before it.
    last = max(days.values(), default=date.min)
    if any(last < day <= today for day in settings.release.release_on):
        return None
    coming = [day for day in (cutoff, *settings.release.release_on) if day > today]
    done = f"release {at_cutoff[-1].release} is that of the data cutoff {data_cutoff}" if at_cutoff else ""
    then = f"the next declared date is {min(coming)}" if coming else "release.release_on declares no further date"
    return f"No release is due: {' and '.join(part for part in (done, then) if part)}."


def _would_disclose(moves: tuple[Move, ...], k: int) -> str:
    named = sorted({move.release for move in moves})
    since = f"release {named[0]}" if len(named) == 1 else f"releases {', '.join(map(str, named))}"
    return (
        f"Disclosure control: since {since} figures have moved by fewer than {k} patients, and whoever holds both "
        f"could subtract them; a release is made when each figure is as it was or has moved by at least {k} "
        "(`periop publish --dry-run` lists them)."
    )


def _refuse_a_fall(settings: Settings, released: Released, past: list[Entry]) -> None:
    if not past or past[-1].results is None:
        return
    last = past[-1]
    before = population_sizes(past[-1].results).get("enrolled")
    now = released.population_sizes["enrolled"]
    if not before or now is None:
        return
    # Exact: of five patients one is not more than a fifth, whatever floats say.
    if Fraction(before - now, before) > Fraction(repr(settings.release.max_fall)):
        share = settings.release.max_fall * 100
        report = settings.internal_dir / "report.html"
        raise PublishError(
            f"release: since release {last.release} more than {share:g} % of the enrolled patients are gone, so "
            f"nothing is published; see {report} and `periop status`; if it is right, run "
            "`periop publish --accept-fall`"
        )

"""Decide whether a release leaves the house now, and say in a sentence without counts why not.

no figure changed                                        nothing to do
its figures were withdrawn                               wait
at_cutoffs, and no declared date has passed              wait
with past releases it would give a few patients away     withhold what would; if too little is left, wait
the patients behind a past release are lost              wait, until a person does without
far fewer patients than in the last release              an error, until a person accepts it
otherwise                                                publish
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from schedules.errors import PublishError, ReleasePatientsError
from schedules.release.following import Analysis, PastRelease, Unsafe, follow
from schedules.release.patients import ReleasePatients
from schedules.release.publish import PublishReport, current_release, has_figures_of, releases
from schedules.release.release_ledger import Entry, ReleaseLedger
from schedules.release.succession import Move, population_sizes

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
    """The wishes of a person: a release `now`, without a declared date; to accept a fall of the enrolled patients; to
    compare by figures only with past releases whose patients are lost."""

    now: bool = False
    accept_fall: bool = False
    figures_only: bool = False


AS_CONFIGURED = Asked()


def decide(
    settings: Settings, analysis: Analysis, ledger: ReleaseLedger, today: date, asked: Asked = AS_CONFIGURED
) -> Waiting | PublishReport | Analysis:
    """Return what is published today: why nothing is, the current release if it stays, or an analysis to publish.

    What past releases together with it would give away is taken out of the analysis. Raises `PublishError` where far
    fewer patients are enrolled than in the last release, and `LedgerError` where the release ledger is damaged.
    """
    from analytics.disclosure.control import threshold

    released = analysis.released
    current, past = current_release(settings.releases_dir), ledger.past()
    folder = settings.releases_dir / str(current) if current is not None else None
    # Before all else: the same figures once more tell nothing new, whatever the mode. The highest may be newer than
    # `current`, after a kill between the two steps, and is then to be made current.
    there = {current, *releases(settings.releases_dir)[-1:]} - {None}
    if any(has_figures_of(settings.releases_dir / str(number), released) for number in there):
        return analysis
    digest = figures_digest(analysis)
    for entry in past:
        # By itself it would show more than it did beside the releases before it, of the same figures.
        # One that was made while the clock was wrong is not to stand: its days are those of the future.
        if entry.release in there and entry.figures == digest and entry.day <= today.isoformat():
            return PublishReport(entry.release, settings.releases_dir / str(entry.release), unchanged=True)
    if not asked.now and (number := _withdrawn_before(released, digest, ledger)):
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
    if k and past:
        try:
            # All of them, also withdrawn ones and those of other rules: what was read cannot be taken back.
            before = _past_releases(settings, past, analysis.results.subjects, figures_only=asked.figures_only)
        except ReleasePatientsError as error:
            return Waiting(f"Disclosure control: {error}.", True, current, folder)
        found = follow(analysis, before, k, current, settings.release.min_shown)
        if isinstance(found, Unsafe):
            return Waiting(_would_disclose(found, k), True, current, folder, found.moves)
        if current and folder and has_figures_of(folder, found.released):
            return PublishReport(current, folder, unchanged=True)
        analysis = found
    # Last, so that a fall is an error only where accepting it makes the release, and the next night is quiet.
    if not asked.accept_fall:
        withdrawn = ledger.withdrawn()
        _refuse_a_fall(settings, analysis.released, [entry for entry in past if entry.release not in withdrawn])
    return analysis


def figures_digest(analysis: Analysis) -> str:
    """Return the digest of all figures and of the threshold, whatever the release and when it was made."""
    import orjson

    from analytics.results import NOT_FIGURES, as_json

    content = {name: value for name, value in as_json(analysis.internal, 0).items() if name not in NOT_FIGURES}
    min_cell = str(analysis.released.min_cell).encode()
    return hashlib.sha256(min_cell + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _past_releases(
    settings: Settings, past: tuple[Entry, ...], subjects: tuple[str, ...], *, figures_only: bool
) -> list[PastRelease]:
    """Return the past releases with the patients behind them. Raises `ReleasePatientsError` where those are lost."""
    files = ReleasePatients(settings.release_patients_dir)
    found = []
    for entry in past:
        patients = None
        if entry.has_patients:
            try:
                patients = files.read(entry.release, subjects)
            except ReleasePatientsError:
                if not figures_only:
                    raise
        found.append(PastRelease(entry.release, entry.results or {}, patients))
    return found


def _withdrawn_before(released: Released, digest: str, ledger: ReleaseLedger) -> int | None:
    """Return the release with these figures that was withdrawn, None where there is none."""
    import orjson

    from analytics.results import dumps, same_figures

    withdrawn = ledger.withdrawn()
    for entry in (each for each in ledger.past() if each.release in withdrawn):
        content = {name: value for name, value in (entry.results or {}).items() if name != "populations"}
        if entry.figures == digest or same_figures(orjson.dumps(content), dumps(released, entry.release)):
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


def _would_disclose(found: Unsafe, k: int) -> str:
    since = f"release {found.releases[0]}" if len(found.releases) == 1 else f"releases {_listed(found.releases)}"
    if not found.moves:
        return (
            f"Disclosure control: together with {since} this one would give groups of fewer than {k} patients away, "
            "and without the figures that do too little is left that is new; a release is made when more has changed "
            "(`periop publish --dry-run` lists what it would show by itself)."
        )
    return (
        f"Disclosure control: since {since} figures have moved by fewer than {k} patients, and whoever holds both "
        f"could subtract them; a release is made when most figures are as they were or have moved by at least {k} "
        "(`periop publish --dry-run` lists them)."
    )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


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

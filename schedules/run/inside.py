"""Questions that are asked inside the hospital and never published: codes that nobody understands, explanations.

Both read the views, which they bring up to date with the lake first, under the run lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedules.errors import LockBusyError
from schedules.run.lock import run_lock
from schedules.run.nightly import refuse_an_empty_lake
from schedules.run.pipeline import mapping_engine

if TYPE_CHECKING:
    from mappers.codes.report import Codes, Share
    from mappers.explain.patient import PatientExplanation
    from mappers.study import Study
    from schedules.config.settings import Settings


def unknown_codes(
    settings: Settings, study: Study, environ: Mapping[str, str], progress: Callable[[str], None]
) -> Codes:
    """Return the codes of all sites that are not understood, and what share of each element is.

    Raises `NothingYetError` where the lake holds nothing of the configured sites.
    """
    from mappers.build.opened import open_lake
    from mappers.codes.report import find_codes

    refuse_an_empty_lake(settings)
    with run_lock(settings.data_dir), mapping_engine(settings, study, environ) as (config, engine):
        lake = open_lake(config, engine, progress)
        progress("looking for codes that are not understood")
        return find_codes(lake.all_patients(), engine, lake.cohort.asked)


def understood_shares(settings: Settings, environ: Mapping[str, str]) -> tuple[Share, ...] | None:
    """Return what share of each element is understood by site; None before the first map, and while a run goes on."""
    from mappers.build.cohort_folder import CohortFolder
    from mappers.build.opened import open_lake
    from mappers.codes.report import find_shares
    from schedules.config.settings import load_study

    # A check must be quick and change nothing that matters: it does not flatten a whole lake for the first time.
    if CohortFolder(settings.cohort_dir).state() is None:
        return None
    try:
        with run_lock(settings.data_dir), mapping_engine(settings, load_study(settings.study), environ) as opened:
            lake = open_lake(*opened, lambda _step: None)
            return find_shares(lake.all_patients(), lake.engine, lake.cohort.asked)
    except LockBusyError:
        return None


@dataclass(frozen=True)
class Wanted:
    """The question of an explanation: a patient by pseudonym or id (`by_id`), one variable or all, at a data cutoff."""

    patient: str
    by_id: bool
    site: str | None
    variable: str | None
    cut: str | None


def explained(
    settings: Settings,
    study: Study,
    environ: Mapping[str, str],
    wanted: Wanted,
    progress: Callable[[str], None],
    record: Callable[[str], None],
) -> PatientExplanation:
    """Return the explanation that is wanted. `record` is told the pseudonym before anything of the patient is read.

    Raises `NothingYetError` where the lake holds nothing of the configured sites.
    """
    from mappers.build.opened import open_lake
    from mappers.explain.patient import explain_patient, find_person
    from schedules.config.credentials import pseudonym_key

    refuse_an_empty_lake(settings)
    with run_lock(settings.data_dir), mapping_engine(settings, study, environ) as (config, engine):
        lake = open_lake(config, engine, progress)
        # Recorded when the patient is known and before anything is read: an error later hides no use.
        person = find_person(lake, wanted.patient, wanted.site, by_id=wanted.by_id)
        record(person.usubjid)
        progress("explaining")
        return explain_patient(lake, person, pseudonym_key(settings, environ), wanted.cut, wanted.variable)

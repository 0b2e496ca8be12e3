"""Write the cohort tables for other programs, inside the hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.config.credentials import private_folder
from schedules.errors import ConfigError, NothingYetError
from schedules.run.audit import record_use
from schedules.run.lock import run_lock

if TYPE_CHECKING:
    import pyarrow as pa

    from mappers.adam.export import Format
    from mappers.study import Study
    from schedules.config.settings import Settings


def export_cohort(
    settings: Settings,
    study: Study,
    folder: Path,
    formats: Sequence[Format],
    cutoff: str | None,
    now: datetime,
    user: str,
) -> Mapping[str, int]:
    """Write the cohort tables in place to `folder`, as `mappers.adam.export` says; return the rows of each.

    The run lock is held, so that no map replaces the tables meanwhile.

    Raises:
        NothingYetError: no tables were made yet, or none at this data cutoff.
        ConfigError: releases leave the hospital from this folder.
        MappingError: a cohort table cannot be read, or a file cannot hold it.
    """
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowException

    from mappers.adam.export import export_tables
    from mappers.build.cohort_folder import CohortFolder
    from mappers.errors import MappingError, unreadable

    _refuse_a_public_folder(settings, folder)
    cohort = CohortFolder(settings.cohort_dir)

    def read(name: str) -> pa.Table:
        file = cohort.file(cutoff, name)
        try:
            return pq.read_table(file)
        except (OSError, ArrowException) as error:
            raise unreadable(file, error) from error

    with run_lock(settings.data_dir):
        if cohort.state() is None or not cohort.file(cutoff, "adsl").is_file():
            at = f" at data cutoff {cutoff}" if cutoff else ""
            raise NothingYetError(f"{settings.cohort_dir}: holds no cohort tables{at}; run `periop map` first")
        # Before anything is read, so that an error later hides no use.
        record_use(settings.data_dir, now, user, "all patients", "export")
        # A folder that is there keeps its rights: its owner may share it with those who work on the tables.
        if not folder.is_dir():
            private_folder(folder)
        try:
            return export_tables(read, study, formats, folder)
        except ValueError as error:
            raise MappingError(f"{folder}: {error}; export it as parquet or csv") from error


def _refuse_a_public_folder(settings: Settings, folder: Path) -> None:
    # Also below them: what synchronises a folder takes what is in it.
    public = [settings.releases_dir, *(target.path for target in settings.publish if target.path is not None)]
    if any(folder.resolve().is_relative_to(each.resolve()) for each in public):
        raise ConfigError(f"{folder}: releases leave the hospital from here, rows of patients must not; name another")

"""Erases patients from the data folder on request, for good (GDPR, Article 17), and keeps them out of later syncs.

The order makes a kill harmless: first the keyed hashes are written, by which a later run recognises what is to be
erased without being told the ids again; then what only the hashes find (quarantine, audit log, lake); then what is
derived and can be made again (views, cohort tables), and what killed runs left. `unfinished` is cleared last, and the
next map finishes an erasure that has it set. Releases stay: they hold figures after disclosure control, and no patient.
The rows of the patient behind past releases go.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.lake.erasure import erase_rows
from connectors.lake.files import write_atomically
from connectors.lake.forgotten import EVERY_SITE, Forgotten, ForgottenAtSite
from connectors.lake.identity import Record, Records
from connectors.lake.quarantine import Quarantine
from connectors.lake.rewrite import delete_unused_files
from connectors.lake.table import Lake
from schedules.config.credentials import pseudonym_key
from schedules.errors import ConfigError
from schedules.release.patients import ReleasePatients
from schedules.run.audit import AUDIT_LOG

if TYPE_CHECKING:
    from schedules.config.settings import Settings

FORGOTTEN_FILE = "forgotten.json"
CRASH_FILES = "crash*.txt"
ERASED = "erased"  # stands in the audit log for the pseudonym of an erased patient

Reached = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The patients to erase: ids of Patients at `site`, or identifiers of `system`, `site` None: of all sites."""

    values: tuple[str, ...]
    system: str | None
    site: str | None


@dataclass
class Erasure:
    """Counts of an erasure, no ids.

    Attributes:
        asked: values in the request; `found` of them name a patient in the lake.
        records: Patients that they are, with those linked to them.
        versions: rows erased from the lake, by resource type.
        quarantined: entries erased from quarantine.
        audited: lines of the audit log that no longer name the patient.
        behind_releases: rows erased from the patients behind past releases.
        files: data files deleted from the lake, those of killed runs among them.
    """

    asked: int = 0
    found: int = 0
    records: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    quarantined: int = 0
    audited: int = 0
    behind_releases: int = 0
    files: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the counts as plain data, for the ledger and `--json`."""
        return asdict(self)


def read_request(file: Path, system: str | None, site: str | None, sites: Sequence[str]) -> Request:
    """Return the request in a file of one id, or one identifier, a line. Raises `ConfigError`."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({type(error).__name__}); one patient a line") from None
    values = tuple(dict.fromkeys(each.strip().removeprefix("Patient/") for each in lines if each.strip()))
    if not values:
        raise ConfigError(f"{file}: names nobody; write one patient a line")
    if system is None and site is None and len(sites) > 1:
        # Two sites may give one id to two people.
        raise ConfigError(f"ids are those of one site: name it with --site ({', '.join(sites)})")
    return Request(values, system, site or (sites[0] if system is None else None))


def load_forgotten(settings: Settings, environ: Mapping[str, str]) -> Forgotten | None:
    """Return the patients who were erased, None where nobody was. Raises `LakeError` or `ConfigError`."""
    file = settings.data_dir / FORGOTTEN_FILE
    return Forgotten.load(file, pseudonym_key(settings, environ)) if file.exists() else None


def remember_learned(settings: Settings, environ: Mapping[str, str], at_site: ForgottenAtSite) -> None:
    """Add the resources that a sync refused to the file. The caller keeps other threads out."""
    forgotten = load_forgotten(settings, environ)
    if forgotten is not None:
        for kind, id_ in at_site.learned:
            forgotten.remember_resource(at_site.site, kind, id_)
        forgotten.save()


def finish_erasure(settings: Settings, environ: Mapping[str, str]) -> None:
    """Finish an erasure that was interrupted, if there is one. The caller holds the run lock."""
    forgotten = load_forgotten(settings, environ)
    if forgotten is not None and forgotten.unfinished:
        log.warning("an erasure of patients was interrupted, and is finished now")
        finish(settings, forgotten)


def matching(settings: Settings, request: Request) -> tuple[int, set[Record]]:
    """Return how many values of the request name a Patient in the lake, and the records of these persons."""
    lake = Lake(settings.lake_dir)
    records = Records.of(lake) if lake.exists() else Records()
    found, named = 0, set[Record]()
    for value in request.values:
        if request.system is None:
            record = (str(request.site), value)
            matched = {record} if record in records.identifiers else set()
        else:
            matched = records.with_identifier(f"{request.system}|{value}", request.site)
        found += bool(matched)
        named |= matched
    return found, records.of_persons(named)


def forget(
    settings: Settings,
    environ: Mapping[str, str],
    request: Request,
    reached: Reached = lambda _: None,
) -> Erasure:
    """Erase the patients of a request. The caller holds the run lock.

    `reached` is told each step that is done, and may raise; the same call, or the next map, then finishes.
    """
    key = pseudonym_key(settings, environ)
    forgotten = Forgotten.load(settings.data_dir / FORGOTTEN_FILE, key)
    found, records = matching(settings, request)
    lake = Lake(settings.lake_dir)
    for value in request.values:
        if request.system is None:
            records.add((str(request.site), value))  # also where nothing of it has come yet
        else:
            forgotten.remember_identifier(request.site or EVERY_SITE, f"{request.system}|{value}")
    for site, id_ in records:
        forgotten.remember_resource(site, "Patient", id_)
        forgotten.remember_text(subject(key, id_))
    for site, identifier in (Records.of(lake) if lake.exists() else Records()).only_of(records):
        forgotten.remember_identifier(site, identifier)
    # On disk before anything is erased: from here on neither a kill nor a sync can undo it.
    forgotten.unfinished = True
    forgotten.save()
    reached("remembered")
    erasure = finish(settings, forgotten, reached)
    erasure.asked, erasure.found, erasure.records = len(request.values), found, len(records)
    return erasure


def subject(key: bytes, id_: str) -> str:
    """Return SUBJID, the pseudonym of a Patient, as `mappers.cohort.facts.pseudonym` makes it in SQL."""
    return hmac.new(key, id_.encode(), hashlib.sha256).hexdigest()[:32]


def finish(settings: Settings, forgotten: Forgotten, reached: Reached = lambda _: None) -> Erasure:
    """Erase everything that `forgotten` recognises. The caller holds the run lock."""
    erasure, lake = Erasure(), Lake(settings.lake_dir)
    for path in sorted(settings.quarantine_dir.glob("*.ndjson")) if settings.quarantine_dir.is_dir() else ():
        site = path.name.removesuffix(".ndjson")
        erasure.quarantined += Quarantine(settings.quarantine_dir).erase(site, forgotten.at(site).text_concerns)
    reached("quarantine")
    erasure.audited = _redact_audit_log(settings.data_dir / AUDIT_LOG, forgotten)
    erasure.behind_releases = ReleasePatients(settings.release_patients_dir).forget(forgotten.has_text)
    reached("audit log")
    if lake.exists():
        erasure.versions = dict(_erase_lake(lake, forgotten))
        reached("lake")
        erasure.files = delete_unused_files(lake)
    reached("files")
    # Whole, and not row by row: they are made again from the lake, and nothing can be overlooked in them.
    for leftover in _derived(settings):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    reached("derived")
    forgotten.unfinished = False
    forgotten.save()
    return erasure


def _erase_lake(lake: Lake, forgotten: Forgotten) -> Counter[str]:
    at = {site: forgotten.at(site) for site in {file.site for file in lake.files()}}

    def concerns(site: str, kind: str, id_: str, patient: str | None, raw: str | None) -> bool:
        return at[site].concerns(kind, id_, patient, raw)

    erased: list[tuple[str, str, str]] = []
    versions = erase_rows(lake, concerns, lambda *each: erased.append(each))
    # So that a server which only names them, without their content, is not asked for them again every night.
    for site, kind, id_ in erased:
        if not forgotten.at(site).is_patient(id_):
            forgotten.remember_resource(site, kind, id_)
    return versions


def _derived(settings: Settings) -> list[Path]:
    """Return what is made again from the lake, and what killed runs left, as far as it is there."""
    data = settings.data_dir
    views = [each for each in (data / "views").glob("*") if each.name != ".compiled"]  # SQL, and no data
    cohorts = [data / f"cohort{end}" for end in ("", ".new", ".old")]
    leftovers = [data / "spill", data / ".maintain", data / "internal", *data.glob(".sync-*"), *data.glob(CRASH_FILES)]
    return [each for each in (*views, *cohorts, *leftovers) if each.exists()]


def _redact_audit_log(file: Path, forgotten: Forgotten) -> int:
    """Take the pseudonyms of erased patients out of the audit log; that somebody looked stays. Return how many."""
    if not file.exists():
        return 0
    lines, changed = [], 0
    for line in file.read_text("utf-8").splitlines():
        entry = json.loads(line)
        if forgotten.has_text(str(entry.get("patient")).rpartition("-")[2]):  # SUBJID, whatever the study
            entry["patient"], changed = ERASED, changed + 1
        lines.append(json.dumps(entry) + "\n")
    if changed:
        write_atomically(file, "".join(lines))
    return changed

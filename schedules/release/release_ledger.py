"""The release ledger: everything that ever left the hospital, in `<data_dir>/release-ledger`, for good.

    000001.json  {"entry": 1, "kind": "released", "release": 1, "previous": null, "results": {…}, …}
    000002.json  {"entry": 2, "kind": "withdrawn", "release": 1, "previous": "<SHA-256 of 000001.json>", …}

Each entry is a file of its own, written whole or not at all, for its owner only, and never changed. Each names the hash
of the one before, so that one that was lost or altered is noticed. A release that was withdrawn stays: who has read it
can still subtract it from a later one. The run ledger is another thing: it may be lost without harm.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from connectors.lake.files import remove_unfinished, write_atomically
from schedules.errors import LedgerError

if TYPE_CHECKING:
    from analytics.disclosure.past import CountedPatients
    from schedules.release.patients import ReleasePatients

Json = Mapping[str, Any]
# Six digits sort as text for longer than any hospital will publish.
NAME = re.compile(r"\d{6,}\.json")


@dataclass(frozen=True)
class Entry:
    """One entry. `results` is the results.json of a release, None of a withdrawal; `when` is an aware instant.

    `results` also has `populations`, the sizes that the report shows. `sha256` is the hash of the entry's file.
    `figures` is a digest of all figures before disclosure control, and `has_patients` says whether the patients behind
    the release were kept; releases of an earlier version have neither.
    """

    number: int
    kind: Literal["released", "withdrawn"]
    release: int
    when: datetime
    sha256: str
    results: Json | None = None
    figures: str | None = None
    has_patients: bool = False

    @property
    def study(self) -> str:
        """Return the id of the study of the release."""
        return str((self.results or {}).get("study"))

    @property
    def day(self) -> str:
        """Return the day of the release in the zone of the hospital, an ISO date; empty where it has none."""
        return str(((self.results or {}).get("provenance") or {}).get("released") or "")

    @property
    def data_cut(self) -> str:
        """Return the data cutoff of the release, an ISO date."""
        return str((self.results or {}).get("data_cut"))


class ReleaseLedger:
    """The release ledger in `folder`. The caller holds the run lock where it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries in their order. Raises `LedgerError` where one is missing or was altered."""
        found: list[Entry] = []
        previous = None
        for number, file in enumerate(self._files(), 1):
            content = file.read_bytes()
            try:
                entry = orjson.loads(content)
                intact = (entry["entry"], entry["previous"]) == (number, previous) and file.name == _name(number)
                found.append(_entry(entry, hashlib.sha256(content).hexdigest()))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                intact = False
            if not intact:
                # No release without it: what was published could be subtracted from what is going to be.
                raise LedgerError(
                    f"{file}: the release ledger is damaged or incomplete here, and nothing is published without it; "
                    "restore the folder from the backup"
                )
            previous = found[-1].sha256
        return tuple(found)

    def past(self) -> tuple[Entry, ...]:
        """Return all releases that were ever made, withdrawn ones too."""
        return tuple(entry for entry in self.entries() if entry.kind == "released")

    def withdrawn(self) -> frozenset[int]:
        """Return the numbers of the releases that were withdrawn."""
        return frozenset(entry.release for entry in self.entries() if entry.kind == "withdrawn")

    def record(
        self,
        release: int,
        results: bytes,
        populations: Json,
        when: datetime,
        figures: str | None = None,
        *,
        has_patients: bool = False,
    ) -> None:
        """Append a release before it is put in place: a kill in between leaves one too many here, never one too few."""
        content = orjson.loads(results)
        # Beside what results.json says, for who looks for a release without reading all of its figures.
        said = {
            "study_hash": content.get("study_hash"),
            "min_cell": (content.get("disclosure") or {}).get("min_cell"),
            "sha256": hashlib.sha256(results).hexdigest(),
            "figures": figures,
            "has_patients": has_patients,
            "results": content | {"populations": dict(populations)},
        }
        self._append("released", release, when, said)

    def withdraw(self, release: int, when: datetime) -> None:
        """Append that a release was withdrawn."""
        self._append("withdrawn", release, when, {})

    def adopt(self, releases_dir: Path, numbers: tuple[int, ...]) -> None:
        """Append the releases in `releases_dir` that are not here: of a version of periop that kept no ledger."""
        known = {entry.release for entry in self.past()}
        for number in numbers:
            file = releases_dir / str(number) / "results.json"
            if number not in known and file.is_file():
                # Its own day is in it from version to version; the file's time may be that of a restored backup.
                results = file.read_bytes()
                made = (orjson.loads(results).get("provenance") or {}).get("released")
                when = datetime.fromisoformat(made) if made else datetime.fromtimestamp(file.stat().st_mtime, UTC)
                self.record(number, results, {}, when if when.tzinfo else when.replace(tzinfo=UTC))

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(file for file in self.folder.iterdir() if NAME.fullmatch(file.name))

    def _append(self, kind: str, release: int, when: datetime, said: Json) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = self.entries()
        number = len(entries) + 1
        head = {
            "entry": number,
            "kind": kind,
            "release": release,
            "when": when.astimezone(UTC).isoformat(timespec="seconds"),
            "previous": entries[-1].sha256 if entries else None,
        }
        file = self.folder / _name(number)
        remove_unfinished(file)
        # exclusive: an entry is never written over, whatever went wrong with the lock.
        write_atomically(file, orjson.dumps(head | dict(said), option=orjson.OPT_INDENT_2), exclusive=True)


@dataclass(frozen=True)
class Recorder:
    """Enters a release into `ledger` as made at `when`, with the sizes of the `populations` in its report.

    `figures` is the digest of all figures before disclosure control. Where the release has `counted` patients they are
    kept in `patients`.
    """

    ledger: ReleaseLedger
    when: datetime
    populations: Json
    figures: str | None = None
    patients: ReleasePatients | None = None
    counted: CountedPatients | None = None

    def highest(self) -> int:
        """Return the highest number that was ever used, 0 where none was."""
        return max((entry.release for entry in self.ledger.past()), default=0)

    def __call__(self, release: int, results: bytes) -> None:
        """Enter release number `release` with its results.json."""
        # Without disclosure control nothing is protected, and no count is kept.
        has_patients = False
        if self.patients is not None and self.counted is not None and self.counted.counts:
            # Before the entry that says so: a kill in between leaves a file that is written again.
            self.patients.write(release, self.counted)
            has_patients = True
        self.ledger.record(release, results, self.populations, self.when, self.figures, has_patients=has_patients)


def _name(number: int) -> str:
    return f"{number:06}.json"


def _entry(content: Json, sha256: str) -> Entry:
    when = datetime.fromisoformat(content["when"])
    results = content.get("results")
    # A file that is JSON and no entry must not pass for one without figures.
    if (results is None) != (content["kind"] == "withdrawn"):
        raise ValueError("a release has results, and a withdrawal has none")
    figures, has_patients = content.get("figures"), content.get("has_patients") is True
    return Entry(content["entry"], content["kind"], content["release"], when, sha256, results, figures, has_patients)

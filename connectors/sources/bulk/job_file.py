"""The file that remembers an export job of a server until it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import orjson

from connectors.errors import SpoolError
from connectors.fhir.instants import comparable
from connectors.lake.files import write_atomically
from connectors.sources.bulk.request import ExportRequest


@dataclass(frozen=True)
class Job:
    """A job on the server. asked: the Date of the server at kick-off. saved: when, by our clock.

    types, since: what was asked for first. left_out: types that the server refused to export, so that they are not in
    this job. since_refused: it refused `_since`, so that the job holds everything. not_before: the server asks
    not to be polled earlier.
    """

    poll: str
    asked: str | None
    saved: str
    left_out: tuple[str, ...] = ()
    since_refused: bool = False
    types: tuple[str, ...] = ()
    since: str | None = None
    not_before: str | None = None


@dataclass(frozen=True)
class JobFile:
    """The file that remembers a job until it is read: readable by its owner only, replaced as a whole, no secret."""

    path: Path

    def save(self, job: Job) -> None:
        """Save the job; it is durable when this returns. Raise SpoolError where it cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.path, orjson.dumps(job))
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be written ({error.strerror}): make its folder writable") from error

    def load(self) -> Job | None:
        """Return the job, None where there is none or the file is damaged (then a new export is requested)."""
        try:
            found = orjson.loads(self.path.read_bytes())
            poll, asked, saved = found["poll"], found["asked"], found["saved"]
            # Jobs of version 0.1 do not have these.
            left_out, types = tuple(found.get("left_out", ())), tuple(found.get("types", ()))
            since, not_before = found.get("since"), found.get("not_before")
            job = Job(poll, asked, saved, left_out, found.get("since_refused", False), types, since, not_before)
            datetime.fromisoformat(job.saved)
            datetime.fromisoformat(job.not_before or job.saved)
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None
        return job if isinstance(job.poll, str) and isinstance(job.asked, str | None) else None

    def remove(self) -> None:
        """Forget the job."""
        self.path.unlink(missing_ok=True)

    @staticmethod
    def of_site(jobs: Path, site: str) -> list[JobFile]:
        """Return the files of all jobs of a site."""
        return [JobFile(path) for path in sorted(jobs.glob(f"{site}-{'[0-9a-f]' * 32}.json"))]


def with_running_jobs(
    requests: Sequence[ExportRequest], files: Iterable[JobFile], base: str, state: Mapping[str, str]
) -> list[ExportRequest]:
    """Return the requests, those for types that the server works on already as they were asked.

    An export that takes days must not be asked for again because meanwhile another question would be the better one,
    such as that for everything once a week. state: the times up to which each type was read.
    """
    rest = list(requests)
    for file in files:
        job = file.load()
        if job is None or not job.types or not rest:
            continue
        running = replace(rest[0], types=job.types, since=job.since)
        # Another name: it was asked with other settings.
        if not file.path.stem.endswith(running.digest(base)) or not _serves(running, rest, state):
            continue
        rest = [replace(each, types=left) for each in rest if (left := _without(each.types, job.types))]
        rest.append(running)
    # Patients first: whether a Group changed decides about the other exports.
    return sorted(rest, key=lambda request: "Patient" not in request.types)


def _serves(running: ExportRequest, requests: Iterable[ExportRequest], state: Mapping[str, str]) -> bool:
    """Return whether a job holds what is to be known of its types."""
    asked = {kind for request in requests for kind in request.types}
    known = [comparable(state.get(f"since.{kind}")) for kind in running.types]
    return asked.issuperset(running.types) and (running.since is None or comparable(running.since) <= min(known))


def _without(types: Iterable[str], left_out: Iterable[str]) -> tuple[str, ...]:
    return tuple(kind for kind in types if kind not in left_out)

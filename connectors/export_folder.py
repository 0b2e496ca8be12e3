"""A pull into a folder: NDJSON in the layout of Bulk Data, with a log by which a pull that was killed is taken up.

    Patient.000.ndjson …      a resource on each line, as received
    deleted/Patient.000.ndjson  Bundles of deletions, as an export has them
    error/…                   OperationOutcomes, and what cannot be read
    log.ndjson                what was asked, and after each part how far each file goes

A part is on disk when its line is in the log. What stands behind that (a kill, a part that failed) is cut off, so no
resource is lost and none is there twice. The log holds no id and no content. Hidden files are for periop alone.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from connectors.errors import FolderError, SpoolError
from connectors.fhir.events import Deleted, NoData, Note, NotOffered, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.resource import WITHOUT_CONTENT, Reason, Rejected, Resource
from connectors.lake.files import flush_to_disk
from connectors.sources.parts import PartEnd

LOG, HIDDEN = "log.ndjson", ".pull"
FILE_BYTES = 1 << 30  # then the next file of the type begins
OWN_FILE = re.compile(r"((?:deleted/|error/)?[A-Za-z]+)\.([0-9]{3,})\.ndjson")
OTHER_PULL = "{} holds another pull (other types, patients or server): give an empty folder, or the same options"
NOT_EMPTY = "{} is not empty and holds no pull: give an empty folder"
TOO_LARGE = "{} resources are over the size limit, and are not in the folder: raise max_resource_bytes"


@dataclass
class ExportFolder:
    """A pull in the folder `path`. asked: what identifies it (server, types, patients), without secrets and ids.

    file_bytes: beyond these the next file of a type begins.
    done: the names of the parts that are there. finished: all are. counts: resources by type. messages: what is
    missing. notes: what is worth knowing.
    """

    path: Path
    asked: Mapping[str, Any]
    now: Callable[[], datetime]
    file_bytes: int = FILE_BYTES
    done: set[str] = field(default_factory=set)
    finished: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}  # of each kind of file: which one, and how many bytes of it
        self._kept: dict[str, tuple[int, int]] = {}  # the same after the last part that was read whole
        self._streams: dict[str, BinaryIO] = {}
        self._written = Counter[str]()  # in this part
        self._seen: set[int] = set()  # in this part: a search that begins again returns resources once more
        self._said: list[str] = []

    def open(self) -> None:
        """Make the folder, or take up the pull in it.

        Raises FolderError where it holds something else, SpoolError where it cannot be written.
        """
        with _explained(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.path / LOG).exists():
                # Not even a file of the same name may be appended to.
                if any(not each.name.startswith(".") for each in self.path.iterdir()):
                    raise FolderError(NOT_EMPTY.format(self.path))
                self._log("kickoff", {"asked": dict(self.asked)})
                return
            for line in self._log_lines():
                self._take_up(line)
            self._kept = dict(self._places)
            self._cut_off()

    def _log_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the log, and cut off a last one that was not written to its end."""
        content = (self.path / LOG).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # killed while it wrote: what the line would have said did not happen
            os.truncate(self.path / LOG, len(whole))
        lines = [json_or_none(each) for each in whole.splitlines()]
        if not lines or not all(isinstance(each, dict) for each in lines) or lines[0].get("eventId") != "kickoff":
            raise FolderError(NOT_EMPTY.format(self.path))
        if lines[0].get("eventDetail", {}).get("asked") != json.loads(json.dumps(self.asked)):
            raise FolderError(OTHER_PULL.format(self.path))
        yield from lines

    def _take_up(self, line: Mapping[str, Any]) -> None:
        detail = line["eventDetail"]
        if line["eventId"] == "part_complete":
            self.done.add(detail["part"])
            self.counts.update(detail["resources"])
            self._places |= {kind: (number, size) for kind, (number, size) in detail["files"].items()}
            self._tell(detail["messages"], detail["notes"])
        self.finished = line["eventId"] == "export_complete"

    def _tell(self, messages: list[str], notes: list[str]) -> None:
        self.messages += [each for each in messages if each not in self.messages]
        self.notes += [each for each in notes if each not in self.notes]

    def _cut_off(self) -> None:
        """Cut every file to where the log says that it ends."""
        self.close()
        for file in (*self.path.glob("*.ndjson"), *self.path.glob("*/*.ndjson")):
            match = OWN_FILE.fullmatch(file.relative_to(self.path).as_posix())
            if match is None:  # of somebody else, or of a later pull in a folder below
                continue
            number, size = self._places.get(match[1], (0, 0))
            if int(match[2]) > number or not size:
                file.unlink()
            elif int(match[2]) == number:
                os.truncate(file, size)

    def take(self, event: SourceEvent | PartEnd) -> None:
        """Write what a pull yields. Raises SpoolError where that cannot be written."""
        with _explained(self.path):
            match event:
                case Resource():
                    self._resource(event)
                case Deleted():
                    self._write(f"deleted/{event.resource_type}", json.dumps(deletion(event)).encode())
                case Rejected():
                    self._rejected(event)
                case Problem():
                    self._said.append(event.message)
                case Note():
                    self._tell([], [event.message])
                case NotOffered():
                    self._tell([], [f"{event.resource_type}: not there ({event.how})"])
                case NoData():
                    self._tell([], [f"{event.resource_type}: the export holds nothing of this type"])
                case PartEnd():
                    self._end(event)
                case _:
                    pass

    def _resource(self, resource: Resource) -> None:
        # The version too: of a resource that changed meanwhile both are kept, and the newer one counts.
        key = hash((resource.resource_type, resource.id, resource.version_id))
        if key not in self._seen:
            self._seen.add(key)
            self._write(resource.resource_type, resource.raw.encode())
            self._written[resource.resource_type] += 1

    def _rejected(self, rejected: Rejected) -> None:
        # Only its beginning was kept.
        if rejected.reason is Reason.TOO_LARGE:
            self._said.append(TOO_LARGE.format("some"))
        elif rejected.content and rejected.reason not in WITHOUT_CONTENT:
            outcome = rejected.reason is Reason.OPERATION_OUTCOME
            self._write("error/OperationOutcome" if outcome else "error/unreadable", rejected.content)
            self._written["(unreadable)"] += not outcome

    def _write(self, kind: str, content: bytes) -> None:
        number, size = self._places.get(kind, (0, 0))
        if size >= self.file_bytes:
            if kind in self._streams:
                self._streams.pop(kind).close()
            number, size = number + 1, 0
        if kind not in self._streams:
            file = self.path / f"{kind}.{number:03}.ndjson"
            file.parent.mkdir(mode=0o700, exist_ok=True)
            self._streams[kind] = _append_to(file)
        # In JSON an end of line stands between two tokens only, so a blank in its place changes nothing.
        line = content.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
        self._streams[kind].write(line)
        self._places[kind] = (number, size + len(line))

    def _end(self, end: PartEnd) -> None:
        if end.error is not None:
            self._tell([str(end.error)], [])
            self._places = dict(self._kept)
            self._cut_off()
        else:
            # On disk first, and then in the log: the other way round a power cut would lose what the log says is there.
            for stream in self._streams.values():
                stream.flush()
                os.fsync(stream.fileno())
            self._kept = dict(self._places)
            self._tell(self._said, [])
            self.done.add(end.part.name)
            self.counts.update(self._written)
            self._log("part_complete", self._detail(end.part.name))
        self._written, self._seen, self._said = Counter(), set(), []

    def _detail(self, part: str) -> dict[str, Any]:
        said = {"messages": self._said, "notes": self.notes}
        return {"part": part, "resources": dict(self._written), "files": self._places, **said}

    def finish(self) -> None:
        """Say in the log that everything was asked for, unless a part failed."""
        with _explained(self.path):
            self.close()
            self._log("export_complete", {"resources": dict(self.counts)})
            self.finished = True

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams.values():
            stream.close()
        self._streams = {}

    def texts(self, kind: str) -> Iterator[tuple[str, str | None]]:
        """Yield the id and the text of each resource of a type that is in the folder."""
        for file in sorted(self.path.glob(f"{kind}.*.ndjson")):
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    body = json_or_none(line.encode())
                    yield str(body.get("id")), line

    def _log(self, event: str, detail: Mapping[str, Any]) -> None:
        # The members of a log of Bulk Data, so that whoever reads those reads this one.
        line = {"exportId": self.asked["id"], "timestamp": self.now().isoformat(), "eventId": event}
        with _append_to(self.path / LOG) as stream:
            stream.write(json.dumps({**line, "eventDetail": detail}).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        flush_to_disk(self.path)


def deletion(deleted: Deleted) -> dict[str, Any]:
    """Return a Bundle that says that a resource was deleted, as a file of Bulk Data has it."""
    meta = {"meta": {"lastUpdated": deleted.last_updated}} if deleted.last_updated else {}
    request = {"method": "DELETE", "url": f"{deleted.resource_type}/{deleted.id}"}
    return {"resourceType": "Bundle", **meta, "type": "transaction", "entry": [{"request": request}]}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}): make it writable and free disk space"
        raise SpoolError(message) from error


def _append_to(file: Path) -> BinaryIO:
    # For its owner only, from the first byte on: it is patient data.
    return open(file, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))

"""Faults of folders (docs/faults.md): what export clients and people leave there, and what the lake then has."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from connectors.lake.current import newest
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.folder import FolderLimits, FolderSource
from connectors.sync import sync_site

EVENT = {"exportId": "7", "timestamp": "2025-01-01T00:00:00Z", "eventId": "kickoff", "eventDetail": {}}
MANIFEST = {"transactionTime": "2025-01-01T00:00:00Z", "requiresAccessToken": False, "output": [], "error": []}
LOG_NOTE = "log.ndjson holds the log or the manifest of an export client, not resources: not read"
NOT_READ = "not read, because it is no *.ndjson, *.jsonl or *.json (or *.gz of these): {}; export it as NDJSON"
ERROR_NOTE = (
    "an export in the folder reports errors, so something is missing in it: see the quarantine of the site, and export "
    "again"
)


def patient(id_: str, **members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, **members}


def event(id_: str, **members: Any) -> dict[str, Any]:
    return {"resourceType": "AdverseEvent", "id": id_, "subject": {"reference": "Patient/a"}, **members}


def deletions(*urls: str, **members: Any) -> dict[str, Any]:
    """Return a Bundle of deletions, as a file of the folder `deleted` has it (Bulk Data, output manifest)."""
    entries = [{"request": {"method": "DELETE", "url": url}} for url in urls]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries, **members}


def outcome(severity: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "processing"}]}


class Folder:
    """A folder site, its lake, and the reports of its syncs."""

    def __init__(self, base: Path) -> None:
        self.path, self.lake, self.quarantine = base / "in", Lake(base / "lake"), Quarantine(base / "quarantine")

    def put(self, name: str, *lines: Any) -> None:
        """Write NDJSON, compressed where the name says so."""
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.write(name, gzip.compress(text, mtime=0) if name.endswith(".gz") else text)

    def write(self, name: str, content: bytes) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)

    def sync(self, *, complete: bool = False, limits: FolderLimits | None = None) -> SyncReport:
        source = FolderSource(
            self.path, frozenset({"Patient", "AdverseEvent"}), limits or FolderLimits(), whole=complete
        )
        return sync_site(source, self.lake, "site", self.quarantine)

    def current(self) -> dict[str, Any]:
        """Return each current resource of the lake by type and id."""
        names = ["site", "resource_type", "id", "version_id", "last_updated", "sync", "deleted", "resource"]
        versions = ibis.memtable(pa.Table.from_batches(self.lake.rows("site", names)))
        rows = newest(versions, ("resource_type", "id")).to_pyarrow().to_pylist()
        found = {f"{row['resource_type']}/{row['id']}": row for row in rows if not row["deleted"]}
        return {name: json.loads(row["resource"]) for name, row in sorted(found.items())}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_fault_55_what_an_export_deleted_is_deleted(folder: Folder) -> None:
    folder.put("1.Patient.ndjson", patient("a"), patient("b"))
    folder.put("1.AdverseEvent.ndjson", event("x"), event("y"))
    folder.sync()
    folder.put("deleted/1.ndjson", deletions("AdverseEvent/x", "Encounter/e"), deletions("Patient/b"))
    report = folder.sync()
    assert list(folder.current()) == ["AdverseEvent/y", "Patient/a"]
    assert (report.status, report.deleted) == ("ok", {"AdverseEvent": 1, "Patient": 1})
    assert (report.counts.quarantined, report.notes) == (0, ())


@pytest.mark.parametrize("updated", [None, "2025-01-01T00:00:00Z"])
def test_fault_55_a_deletion_is_stored_once(folder: Folder, updated: str | None) -> None:
    meta = {"meta": {"lastUpdated": updated}} if updated else {}
    folder.put("Patient.ndjson", patient("a", **meta), patient("b", **meta))
    folder.sync()
    folder.put("deleted/1.ndjson.gz", deletions("Patient/b"))
    for _ in range(3):
        folder.sync()
    assert list(folder.current()) == ["Patient/a"]
    assert folder.lake.version() == 2


@pytest.mark.parametrize("times", [(None, None, None), ("2025-01-01", "2025-01-03", "2025-01-02"), ("2025-01-01",) * 3])
def test_fault_55_increments_are_applied_in_order(folder: Folder, times: tuple[str | None, ...]) -> None:
    def meta(day: str | None) -> dict[str, Any]:
        return {"meta": {"lastUpdated": f"{day}T00:00:00Z"}} if day else {}

    first, deleted, second = times
    folder.put("Patient.ndjson", patient("a", gender="male", **meta(first)), patient("gone", **meta(first)))
    folder.put("deleted/1.ndjson", deletions("Patient/a", **meta(deleted)))
    # 10 comes after 9, and "b" is in the folder of an increment and not after it.
    folder.put("9/Patient.ndjson", patient("a", gender="other", **meta(second)), patient("b", **meta(second)))
    folder.put("10/Patient.ndjson", patient("a", gender="female", **meta(second)))
    folder.put("10/deleted/1.ndjson", deletions("Patient/gone", "Patient/b"))
    for _ in range(3):  # and it stays so, although everything is read each night
        folder.sync()
        found = folder.current()
        assert list(found) == ["Patient/a"]
        assert found["Patient/a"]["gender"] == "female"
    assert folder.lake.version() == 1


def test_fault_55_a_history_in_a_folder_stands_newest_first(folder: Folder) -> None:
    entries = [
        {
            "request": {"method": "DELETE", "url": "Patient/a"},
            "response": {"status": "204", "lastModified": "2025-02-01T00:00:00Z"},
        },
        {
            "resource": patient("a", meta={"lastUpdated": "2025-01-01T00:00:00Z"}),
            "request": {"method": "PUT", "url": "Patient/a"},
        },
        {"resource": patient("b"), "request": {"method": "PUT", "url": "Patient/b"}},
    ]
    folder.put("history.json", {"resourceType": "Bundle", "type": "history", "entry": entries})
    folder.sync()
    assert list(folder.current()) == ["Patient/b"]


def test_fault_55_logs_and_manifests_are_no_resources(folder: Folder) -> None:
    folder.put("1.Patient.ndjson", patient("a"), patient("b"))
    folder.put("log.ndjson", EVENT, {**EVENT, "eventId": "export_complete"})
    folder.put("002.2025-01-02/log.ndjson", EVENT)
    folder.put("002.2025-01-02/export-7.ndjson", EVENT)
    folder.write("manifest.json", json.dumps(MANIFEST, indent=2).encode())
    folder.write("the-export.json", json.dumps(MANIFEST).encode())
    folder.write("attachments/letter.json", b'{"of": "a patient"}')
    folder.sync(complete=True)
    folder.put("1.Patient.ndjson", patient("a"))
    report = folder.sync(complete=True)
    # What they hold is not in quarantine, where it would keep anything from being taken as deleted.
    assert list(folder.current()) == ["Patient/a"]
    assert (report.status, report.counts.quarantined, report.removed) == ("ok", 0, {"Patient": 1})
    assert report.notes == (
        NOT_READ.format("1 folders named attachments"),
        LOG_NOTE,
        LOG_NOTE.replace("log.ndjson", "manifest.json"),
        LOG_NOTE.replace("log.ndjson", "a file"),
    )


def test_fault_55_resources_in_a_file_named_log_are_read(folder: Folder) -> None:
    folder.put("log.ndjson", patient("a"))
    assert (folder.sync().notes, list(folder.current())) == ((), ["Patient/a"])


def test_fault_55_errors_of_an_export_delete_nothing(folder: Folder) -> None:
    folder.put("1.Patient.ndjson", patient("a"), patient("b"))
    folder.sync(complete=True)
    folder.put("1.Patient.ndjson", patient("a"))
    folder.put("error/1.ndjson", outcome("error"), outcome("information"))
    partial = folder.sync(complete=True)
    assert (partial.status, partial.messages, partial.reasons) == ("partial", (ERROR_NOTE,), {"operation-outcome": 1})
    assert list(folder.current()) == ["Patient/a", "Patient/b"]
    # A folder that may hold a part is what it is: said, and no more.
    told = folder.sync()
    assert (told.status, told.notes[0]) == ("ok", ERROR_NOTE)
    folder.put("error/1.ndjson", outcome("warning"))
    hints = folder.sync(complete=True)
    assert (hints.status, hints.counts.quarantined, list(folder.current())) == ("ok", 0, ["Patient/a"])
    assert hints.notes == (
        "warnings and notes that the server wrote about an export (OperationOutcome) were not stored",
    )


def test_fault_55_links_to_the_files_of_each_export_are_read_once(folder: Folder) -> None:
    """smart-fetch: an export in each folder, and links to their files above them."""
    folder.put("001.2025-06-26/Patient.001.ndjson.gz", patient("a"), patient("b"))
    folder.put("002.2025-06-27/Patient.001.ndjson.gz", patient("a", gender="female"))
    folder.put("002.2025-06-27/deleted/Patient.001.ndjson.gz", deletions("Patient/b"))
    for number, place in enumerate(("001.2025-06-26", "002.2025-06-27"), 1):
        (folder.path / f"Patient.00{number}.ndjson.gz").symlink_to(f"{place}/Patient.001.ndjson.gz")
        folder.put(f"{place}/log.ndjson", EVENT)
        folder.write(f"{place}/.metadata", b"{}")
    report = folder.sync()
    assert folder.current() == {"Patient/a": patient("a", gender="female")}
    assert report.counts.received == 4
    assert report.notes == (LOG_NOTE,)


def test_fault_56_what_is_not_read_is_told(folder: Folder) -> None:
    folder.put("Patient.ndjson", patient("a"))
    for name in ("Patient.xml", "more/x.ndjson.zip", "Lovelace.Ada", "Patient"):
        folder.write(name, b"?")
    (folder.path / "broken.ndjson").symlink_to(folder.path / "nowhere")
    elsewhere = folder.path.parent / "elsewhere"
    elsewhere.mkdir()
    (folder.path / "linked").symlink_to(elsewhere)
    report = folder.sync()
    # The ending "Ada" is part of the name of a person, and is not shown.
    skipped = "1 *.xml, 1 *.zip, 1 links that lead nowhere, 1 links to a folder, 2 of another ending"
    assert report.notes == (NOT_READ.format(skipped),)


A, B = '{"resourceType": "Patient", "id": "a"}', '{"resourceType": "Patient", "id": "b"}'


@pytest.mark.parametrize(
    "text",
    [
        '{\n "resourceType": "Patient",\n "id": "a"}\n{\n "resourceType": "Patient",\n "id": "b"}',
        '{"resourceType": "Patient",\n "id": "a"\n}\n{"resourceType": "Patient",\n "id": "b"\n}\n',
        '\n\n{ "resourceType": "Patient",\r\n\r\n "id": "a" }\r\n{ "resourceType": "Patient",\r\n "id": "b" }\r\n',
        f"[{A},\n{B}\n]",
        f"[\n{A}, {B}]",
        f"[{A}, {B}]\n",
        f'{{"resourceType": "Bundle", "entry": [{{"resource": {A}}},\n{{"resource": {B}}}]}}',
        f'{{"resourceType": "Bundle", "entry": [\n{{"resource": {A}}},\n{{"resource": {B}}}\n]\n}}',
        f"""{{"resourceType": "Bundle", "entry": [{{"resource":
            {{"resourceType": "Bundle", "entry": [{{"resource": {A}}}]}}}}, {{"resource": {B}}}]}}""",
    ],
)
@pytest.mark.parametrize("name", ["a.ndjson", "A.NDJSON", "a.jsonl", "a.json", "a.ndjson.gz", "a.json.gz", "A.JSON.GZ"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_fault_56_json_over_several_lines_is_read(folder: Folder, text: str, name: str, start: bytes) -> None:
    content = start + text.encode()
    folder.write(name, gzip.compress(content, mtime=0) if name.lower().endswith(".gz") else content)
    report = folder.sync()
    assert (report.counts.received, list(folder.current())) == (2, ["Patient/a", "Patient/b"])


def test_fault_56_a_first_line_that_was_cut_costs_only_itself(folder: Folder) -> None:
    folder.write("a.ndjson", b'{"resourceType": "Patient", "id": "cu\n' + json.dumps(patient("a")).encode())
    assert (folder.sync().reasons, list(folder.current())) == ({"truncated": 1}, ["Patient/a"])


def test_fault_56_a_file_that_is_too_large_to_be_read_whole_is_named(folder: Folder) -> None:
    folder.put("a.ndjson", patient("a"))
    folder.write("b.ndjson", json.dumps([patient("b", text="x" * 4000)], indent=1).encode())
    report = folder.sync(limits=FolderLimits(document=1000))
    assert (report.reasons, list(folder.current())) == ({"too-large": 1}, ["Patient/a"])
    assert [each["where"] for each in folder.quarantine.entries("site")] == ["b.ndjson"]


def test_fault_160_a_document_that_is_not_read_for_its_size_makes_the_site_partial(folder: Folder) -> None:
    folder.put("a.ndjson", patient("a"))
    entry = [{"resource": patient(f"p{number}", text="x" * 4000)} for number in range(600)]
    folder.write("all.json", json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entry}).encode())
    report = folder.sync(limits=FolderLimits(document=2 << 20))
    said = "a *.json file of more than 2 MB was not read, because such a file is read as a whole: export it as NDJSON"
    assert (report.status, list(folder.current())) == ("partial", ["Patient/a"])
    assert report.messages[0].startswith(said)
    assert folder.sync().counts.stored == 600


@pytest.mark.parametrize("text", ['{"name": "app", "version": 1}', '{\n "a": {"b": 1}\n}', '[{"a": 1}]'])
def test_fault_159_json_that_is_no_fhir_is_named_with_the_reason(folder: Folder, text: str) -> None:
    folder.put("a.ndjson", patient("a"))
    folder.write("Lovelace.Ada.json", text.encode())
    report = folder.sync()
    assert (report.status, list(folder.current())) == ("ok", ["Patient/a"])
    said = [each for each in report.notes if "JSON without a resourceType, which is no FHIR" in each]
    assert len(said) == 1
    assert "Ada" not in repr(report)  # the name of a file may be that of a patient, so the quarantine alone has it
    (entry,) = folder.quarantine.entries("site")
    assert (entry["where"].split(" ")[0], entry["reason"]) == ("Lovelace.Ada.json", "no-resource-type")

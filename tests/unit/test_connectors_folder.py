"""Folders of exports, whole and damaged."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from connectors.errors import FolderError
from connectors.fhir.events import Expected, Problem
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.sources.folder import FolderLimits, FolderSource


def patient(id_: str) -> str:
    return json.dumps({"resourceType": "Patient", "id": id_})


def pull(folder: Path, **options: object) -> tuple[list[Resource], list[Rejected], list[Problem]]:
    items = list(FolderSource(folder, **options).pull())  # type: ignore[arg-type]
    assert not any(isinstance(item, Expected) for item in items)
    return (
        [item for item in items if isinstance(item, Resource)],
        [item for item in items if isinstance(item, Rejected)],
        [item for item in items if isinstance(item, Problem)],
    )


def test_every_kind_of_file_those_of_a_folder_before_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.ndjson").write_text(patient("2") + "\n\n" + patient("3") + "\r\n")
    (tmp_path / "a.json").write_text(json.dumps({"resourceType": "Patient", "id": "1"}, indent=2))
    (tmp_path / "c.ndjson.gz").write_bytes(
        gzip.compress(patient("4").encode()) + gzip.compress(b"\n" + patient("5").encode())
    )
    (tmp_path / "notes.txt").write_text("not for us")
    (tmp_path / ".hidden.json").write_text("not for us")
    resources, rejected, problems = pull(tmp_path)
    assert [item.id for item in resources] == ["1", "4", "5", "2", "3"]
    assert (rejected, problems) == ([], [])
    assert "\n" in resources[0].raw


def test_files_as_export_clients_leave_them(tmp_path: Path) -> None:
    """An array, JSON over several lines in place of NDJSON, compressed documents, other endings."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": json.loads(patient("b"))}]}
    (tmp_path / "1.json").write_text(f"[{patient('a1')},\n {patient('a2')}]")
    (tmp_path / "2.json.gz").write_bytes(gzip.compress(json.dumps(bundle).encode()))
    (tmp_path / "3.ndjson").write_text(
        "\n".join(json.dumps(json.loads(patient(id_)), indent=2) for id_ in ("c1", "c2"))
    )
    (tmp_path / "4.NDJSON").write_text(patient("d"))
    (tmp_path / "5.jsonl").write_text(f"{patient('e')}\n[{patient('f')}]\n")
    (tmp_path / "6.ndjson").write_text(json.dumps([json.loads(patient("g")), bundle], indent=1))
    (tmp_path / "7.JSON").write_text(f"{patient('h1')}\n{patient('h2')}\n")
    resources, rejected, problems = pull(tmp_path)
    found = [resource.id for resource in resources]
    assert found == ["a1", "a2", "b", "c1", "c2", "d", "e", "f", "g", "b", "h1", "h2"]
    assert (rejected, problems) == ([], [])


@pytest.mark.parametrize(
    ("name", "text", "ids", "reasons"),
    [
        # Without the time of compression, which would be another in each process that shares the tests
        ("a.json", b"[]", [], []),
        ("a.json", f"[{patient('1')}, 7, [[[]]]]".encode(), ["1"], [Reason.NOT_AN_OBJECT] * 2),
        ("a.json", f"[{patient('1')}, ".encode(), [], [Reason.NOT_JSON]),
        ("a.ndjson", b'{\n"resourceType": "Patient",\n', [], [Reason.TRUNCATED]),
        ("a.ndjson", f"{patient('1')}\n{{\n}}\n".encode(), ["1"], [Reason.TRUNCATED, Reason.NOT_JSON]),
        ("a.json.gz", gzip.compress(patient("1").encode(), mtime=0)[:-9], [], [Reason.DAMAGED_GZIP]),
        ("a.json.gz", gzip.compress(b"[" + b" " * 5000 + b"]", mtime=0), [], [Reason.TOO_LARGE]),
    ],
)
def test_a_document_that_is_damaged_is_set_aside(
    tmp_path: Path, name: str, text: bytes, ids: list[str], reasons: list[Reason]
) -> None:
    (tmp_path / name).write_bytes(text)
    resources, rejected, problems = pull(tmp_path, limits=FolderLimits(document=4000))
    assert [resource.id for resource in resources] == ids
    assert [item.reason for item in rejected] == reasons
    assert bool(problems) == (reasons in ([Reason.DAMAGED_GZIP], [Reason.TOO_LARGE]))


def test_fault_19_bad_lines_are_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + patient("1").encode(),
        b'{"resourceType":"Patient","id":"\xff"}',
        b'{"resourceType":"Patient","id":"x","n":NaN}',
        b'{"resourceType":"Encounter","id":"e"}',
        b'{"resourceType":"Patient","id":"../x"}',
        patient("2").encode(),
        b'{"resourceType":"Patient","id":"3","name":[{}]',
    ]
    (tmp_path / "Patient.ndjson").write_bytes(b"\n".join(lines))
    resources, rejected, problems = pull(tmp_path, types=frozenset({"Patient"}))
    assert [item.id for item in resources] == ["1", "2"]
    assert [(item.reason, item.where) for item in rejected] == [
        (Reason.INVALID_UTF8, "Patient.ndjson:2"),
        (Reason.NOT_A_NUMBER, "Patient.ndjson:3"),
        (Reason.UNREQUESTED_TYPE, "Patient.ndjson:4"),
        (Reason.INVALID_ID, "Patient.ndjson:5"),
        (Reason.TRUNCATED, "Patient.ndjson:7"),
    ]
    assert problems == []


def test_a_last_line_cut_behind_a_bracket_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"resourceType":"Patient","name":[{"family":"x"}')
    assert [item.reason for item in pull(tmp_path)[1]] == [Reason.TRUNCATED]


def test_a_whole_last_line_without_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text(patient("1"))
    assert [item.id for item in pull(tmp_path)[0]] == ["1"]


def test_bundles_give_their_entries_as_received_and_resolve_urns(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(
        """{"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "p1"}},
        {"fullUrl": "urn:uuid:2", "resource": {"resourceType": "Observation", "id": "o1",
          "subject": {"reference": "urn:uuid:1"}, "valueQuantity": {"value": 1.10}}},
        {"fullUrl": "urn:uuid:3", "resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "fatal"}]}},
        {"request": {"method": "DELETE", "url": "Patient?identifier=7"}},
        {"request": {"method": "DELETE", "url": "Patient/2"}},
        {"resource": {"resourceType": "Observation", "status": "final"}}]}"""
    )
    resources, rejected, _ = pull(tmp_path)
    assert [(item.id, item.patient) for item in resources] == [("p1", "p1"), ("o1", "p1")]
    assert '"value": 1.10' in resources[1].raw
    assert [item.reason for item in rejected] == [Reason.OPERATION_OUTCOME, Reason.EMPTY_ENTRY, Reason.NO_ID]


@pytest.mark.parametrize("poison", ["NaN", '"\\ud800"', "[" * 3000 + "]" * 3000, "1e999"])
def test_fault_19_a_poisoned_entry_costs_only_itself(tmp_path: Path, poison: str) -> None:
    def entry(id_: str, x: str) -> str:
        return f'{{"resource":{{"resourceType":"Patient","id":"{id_}","x":{x}}}}}'

    good = '[1.10,"a,}]\\"{"]'
    entries = ",\n".join([entry("1", good), entry("bad", poison), entry("2", good)])
    (tmp_path / "b.json").write_text(f'{{"resourceType":"Bundle","type":"collection","entry":[{entries}]}}')
    resources, rejected, _ = pull(tmp_path)
    assert [item.id for item in resources] == ["1", "2"]
    assert all("[1.10," in item.raw for item in resources)
    assert len(rejected) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"1"}},',
            Reason.TRUNCATED,
        ),
        (
            '{"resourceType":"Bundle","entry":{"resource":{"resourceType":"Patient","id":"1"}}}',
            Reason.MALFORMED_BUNDLE,
        ),
        ('{"resourceType":"Bundle","entry":[null]}', Reason.EMPTY_ENTRY),
    ],
)
def test_a_damaged_bundle_is_counted(tmp_path: Path, text: str, reason: Reason) -> None:
    (tmp_path / "b.json").write_text(text)
    resources, rejected, _ = pull(tmp_path)
    assert (resources, [item.reason for item in rejected]) == ([], [reason])


def test_fault_2_a_cut_gzip_keeps_what_stood_before_and_is_partial(tmp_path: Path) -> None:
    lines = [
        json.dumps({"resourceType": "Patient", "id": str(n), "x": sha256(b"%d" % n).hexdigest()}) for n in range(5000)
    ]
    whole = gzip.compress("\n".join(lines).encode())
    (tmp_path / "a.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.ndjson").write_text(patient("after"))
    resources, rejected, problems = pull(tmp_path)
    assert 1000 < len(resources) < 4000
    assert [item.id for item in resources] == [str(n) for n in range(len(resources) - 1)] + ["after"]
    assert [item.reason for item in rejected] == [Reason.DAMAGED_GZIP]
    assert rejected[0].where == f"a.ndjson.gz:{len(resources)}"
    assert len(problems) == 1


def test_a_corrupt_gzip_and_one_that_is_none(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress((patient("1") + "\n").encode()))
    whole[-5] ^= 0xFF  # the length in the trailer
    (tmp_path / "a.ndjson.gz").write_bytes(whole)
    (tmp_path / "b.ndjson.gz").write_text(patient("2"))
    _, rejected, problems = pull(tmp_path)
    assert Counter(item.reason for item in rejected) == {Reason.DAMAGED_GZIP: 2}
    assert len(problems) == 2


def test_fault_18_what_is_too_large_is_set_aside(tmp_path: Path) -> None:
    big = json.dumps({"resourceType": "Patient", "id": "big", "x": "x" * 2000})
    (tmp_path / "a.ndjson").write_text("\n".join([patient("1"), big, patient("2"), big]))
    (tmp_path / "b.json").write_text(big * 3)
    entries = [{"resource": json.loads(big)}, {"resource": json.loads(patient("3"))}]
    (tmp_path / "c.json").write_text(json.dumps({"resourceType": "Bundle", "entry": entries}))
    resources, rejected, _ = pull(tmp_path, limits=FolderLimits(resource=1000, document=3000))
    assert [item.id for item in resources] == ["1", "2", "3"]
    assert [(item.reason, item.where) for item in rejected] == [
        (Reason.TOO_LARGE, "a.ndjson:2"),
        (Reason.TOO_LARGE, "a.ndjson:4"),
        (Reason.TOO_LARGE, "b.json"),
        (Reason.TOO_LARGE, "c.json entry 0"),
    ]


def test_fault_18_a_gzip_bomb_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.ndjson.gz", "wb") as stream:
        for _ in range(64):
            stream.write(b" " * (1 << 20))
    _, rejected, _ = pull(tmp_path, limits=FolderLimits(resource=1 << 20))
    assert [item.reason for item in rejected] == [Reason.TOO_LARGE]
    assert len(rejected[0].content) <= 1 << 20


def test_a_folder_without_anything_to_read(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="holds no"):
        list(FolderSource(tmp_path).pull())
    with pytest.raises(FolderError, match="is not a folder"):
        list(FolderSource(tmp_path / "missing").pull())

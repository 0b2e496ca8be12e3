"""Files of `periop view run` as people have them: what is read, and what is said of nothing."""

from __future__ import annotations

import gzip
import io
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.view_terminal import ANNA, BEN, COLUMNS, DOSE, Terminal, definition, sentence

PERSON = "6c5d9ca9-54d7-42f5-bfae-a7c19cd217f2"
KEYS = [{"name": "id", "path": "getResourceKey()"}, {"name": "patient", "path": "subject.getReferenceKey(Patient)"}]


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.put("id.json", definition(COLUMNS[0]))
    terminal.put("keys.json", definition(*KEYS, resource="Observation"))
    return terminal


def bundle(*references: str) -> str:
    patient = {"resourceType": "Patient", "id": PERSON, "identifier": [{"system": "urn:mrn", "value": "7"}]}
    observations = [
        {"resourceType": "Observation", "id": f"o{number}", "subject": {"reference": reference}}
        for number, reference in enumerate(references)
    ]
    entries: list[dict[str, Any]] = [{"fullUrl": f"urn:uuid:{PERSON}", "resource": patient}]
    entries += [{"fullUrl": f"urn:uuid:{number}", "resource": one} for number, one in enumerate(observations)]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def rows(periop: Terminal, view: str, *files: str) -> list[list[str]]:
    assert periop("run", view, *files, "--format", "csv") == 0
    return sorted(line.split(",") for line in periop.out.splitlines()[1:])


@pytest.mark.parametrize("name", ["bundle.json", "bundle.ndjson"])
def test_fault_116_references_of_a_bundle_become_keys(periop: Terminal, name: str) -> None:
    periop.put(name, bundle(f"urn:uuid:{PERSON.upper()}", "Patient?identifier=urn:mrn%7C7", f"Patient/{PERSON}") + "\n")
    assert rows(periop, "keys.json", name) == [[f"o{number}", PERSON] for number in range(3)]
    assert periop.err == ""


def test_fault_116_references_that_lead_nowhere_are_counted(periop: Terminal) -> None:
    periop.put("bundle.json", bundle("urn:uuid:none", "Patient?identifier=urn:mrn%7C8", f"urn:uuid:{PERSON}"))
    assert rows(periop, "keys.json", "bundle.json") == [["o0", ""], ["o1", ""], ["o2", PERSON]]
    assert periop.err.startswith("2 references (urn: or a search) lead to no entry of their Bundle")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("doses.ndjson", f"{DOSE}\n" * 3, "no rows: 3 resources read, none is a Patient"),
        ("none.ndjson", "", "no rows: the files hold no resource"),
        ("empty.json", '{"resourceType":"Bundle","type":"searchset"}', "no rows: the files hold no resource"),
        (
            "all.ndjson",
            f"{ANNA}\n{DOSE}\n",
            "no rows: 2 resources read, 1 of type Patient; where or forEach of the view",
        ),
    ],
)
def test_fault_121_no_rows_are_explained(periop: Terminal, name: str, text: str, said: str) -> None:
    where = {"where": [{"path": "gender = 'male'"}]}
    periop.put("men.json", json.dumps(json.loads(definition(COLUMNS[0])) | where))
    periop.put(name, text)
    assert periop("run", "men.json", name, "--format", "csv") == 0
    assert periop.out.splitlines() == ["id"]
    assert periop.err.startswith(said)
    assert len(periop.err.splitlines()) == 1


ARRAY = f"[{ANNA}, {BEN}]"
OVER_LINES = json.dumps(json.loads(ARRAY), indent=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.jsonl", f"{ANNA}\n{BEN}\n"),
        ("LINES.NDJSON", f"{ANNA}\n{BEN}\n"),
        ("bom.ndjson", f"\ufeff{ANNA}\r\n{BEN}"),
        ("array.json", ARRAY),
        ("arrays.ndjson", f"[{ANNA}]\n[{BEN}]\n"),
        ("late.ndjson", f"{ANNA}\n  [{BEN}]\n"),
        ("bundle.ndjson", f'{ANNA}\n{{"resourceType":"Bundle","type":"batch","entry":[{{"resource":{BEN}}}]}}\n'),
        ("pretty.ndjson", OVER_LINES),
        ("BOM.JSON", f"\ufeff{OVER_LINES}"),
        ("several.json", f"{ANNA}\n{BEN}\n"),
        ("any.txt", f"{ANNA}\n{BEN}\n"),
        ("CAPITALS.NDJSON.GZ", f"{ANNA}\n{BEN}\n"),
    ],
)
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_fault_122_files_as_people_have_them(periop: Terminal, name: str, text: str, zipped: str) -> None:
    raw = text.encode()
    zipped = "" if name.endswith("GZ") else zipped
    (periop.folder / f"{name}{zipped}").write_bytes(gzip.compress(raw) if zipped or name.endswith("GZ") else raw)
    assert rows(periop, "id.json", f"{name}{zipped}") == [["anna"], ["ben"]]
    assert periop.err == ""


@pytest.mark.parametrize("raw", [f"{ANNA}\n{BEN}\n".encode(), OVER_LINES.encode(), gzip.compress(ARRAY.encode())])
def test_fault_122_resources_on_stdin(periop: Terminal, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert rows(periop, "id.json", "-") == [["anna"], ["ben"]]


def test_fault_122_a_fault_on_stdin_is_named_and_not_quoted(periop: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{ANNA}\nsecret\n".encode())))
    assert periop("run", "id.json", "-") == 1
    assert sentence(periop).startswith("stdin: not JSON in line 2 (")
    assert "secret" not in periop.err


def test_fault_118_a_complex_column_is_json_in_text_and_a_struct_in_parquet(periop: Terminal) -> None:
    column = {"name": "q", "path": "value.ofType(Quantity)", "type": "Quantity"}
    periop.put("q.json", definition(column, {"name": "c", "path": "code"}, resource="Observation"))
    periop.put("doses.ndjson", DOSE.replace("-1.50", "12345678901234567890.12"))
    assert periop("run", "q.json", "doses.ndjson", "--format", "csv") == 0
    assert periop.out.splitlines() == ["q,c", '"{""value"":12345678901234567890.12}","{""text"":""x""}"']
    assert periop("run", "q.json", "doses.ndjson", "--format", "ndjson") == 0
    assert periop.out == '{"q":{"value":12345678901234567890.12},"c":{"text":"x"}}\n'
    assert periop("run", "q.json", "doses.ndjson") == 0
    assert '{"text":"x"}' in periop.out
    assert periop("run", "q.json", "doses.ndjson", "--out", "q.parquet") == 0
    (row,) = pq.read_table(periop.folder / "q.parquet").to_pylist()
    assert row["c"] == {"coding": None, "text": "x"} or row["c"] == {"coding": [], "text": "x"}
    assert row["q"]["value"] == Decimal("12345678901234567890.12")


def test_fault_127_what_is_no_formula_stays_and_protection_can_be_off(periop: Terminal) -> None:
    texts = ["+39 02 12-34 (5)", "+1+cmd", "=1+1", "-x", "+39"]
    people = [{"resourceType": "Patient", "id": str(n), "telecom": [{"value": text}]} for n, text in enumerate(texts)]
    periop.put("people.ndjson", "".join(f"{json.dumps(one)}\n" for one in people))
    periop.put("phone.json", definition({"name": "phone", "path": "telecom.value.first()"}))
    assert [row[0] for row in rows(periop, "phone.json", "people.ndjson")] == sorted(
        ["+39 02 12-34 (5)", "'+1+cmd", "'=1+1", "'-x", "+39"]
    )
    assert periop("run", "phone.json", "people.ndjson", "--format", "csv", "--raw") == 0
    assert sorted(periop.out.splitlines()[1:]) == sorted(texts)

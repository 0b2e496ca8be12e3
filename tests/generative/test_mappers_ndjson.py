"""Files of NDJSON: the short way of reading gives the rows of the plain way, no line is lost, no digit is lost."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.ndjson import LONGEST, UNREADABLE, Lines, is_unreadable
from mappers.view.runner import ViewDefinition, parse_lines, parse_plainly, run_view, view_table

VIEW = ViewDefinition.load(
    {
        "resource": "Observation",
        "select": [
            {
                "column": [
                    {"name": "id", "path": "id"},
                    {"name": "value", "path": "value.ofType(Quantity).value"},
                    {"name": "unit", "path": "value.ofType(Quantity).unit"},
                    {"name": "whole", "path": "value.ofType(integer)"},
                    {"name": "yes", "path": "value.ofType(boolean)"},
                    {"name": "codes", "path": "code.coding.code", "collection": True},
                    {"name": "parts", "path": "component.value.ofType(Quantity).value", "collection": True},
                    {"name": "subject", "path": "subject.exists()"},
                ]
            }
        ],
    }
)
IDS = ViewDefinition.load({"resource": "Observation", "select": [{"column": [{"name": "id", "path": "id"}]}]})

numbers = st.sampled_from([0, -1, 1.5, 0.1, 36.6, 1e-7, 1e5, 123456.789, -0.0, 1e22, 0.30000000000000004, 2**53 + 1])
texts = st.sampled_from(["", "x", "1.5", "true", "é", "\u0000", "line\nbreak"])
oddities = st.sampled_from([None, [], {}, [1], {"value": 1.5}, [{"value": 0.1}]])
values = st.one_of(numbers, texts, oddities, st.booleans())
quantities = st.fixed_dictionaries({}, optional={"value": st.one_of(numbers, texts, oddities), "unit": values})
codings = st.fixed_dictionaries({}, optional={"coding": st.lists(st.fixed_dictionaries({"code": values}), max_size=3)})
observations = st.fixed_dictionaries(
    {"resourceType": st.sampled_from(["Observation", "Observation", "Patient"])},
    optional={
        "id": values,
        "valueQuantity": st.one_of(quantities, values),
        "valueInteger": values,
        "valueBoolean": values,
        "code": st.one_of(codings, values),
        "component": st.one_of(
            st.lists(st.fixed_dictionaries({"valueQuantity": quantities}), max_size=3), texts, oddities
        ),
        "subject": values,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(observations, max_size=5), st.booleans(), st.booleans())
def test_both_ways_give_the_same_rows(resources: list[dict[str, object]], spaces: bool, returns: bool) -> None:
    separators = (", ", ": ") if spaces else (",", ":")
    lines = [json.dumps(resource, separators=separators, ensure_ascii=spaces) for resource in resources]
    with TemporaryDirectory() as folder, DuckDBEngine(threads=1) as engine:
        path = Path(folder) / "observations.ndjson"
        path.write_bytes(("\r\n" if returns else "\n").join(lines).encode())
        short, plain = (
            engine.con.to_pyarrow(view_table(VIEW, way(engine, path))).to_pylist()
            for way in (parse_lines, parse_plainly)
        )
    assert repr(short) == repr(plain)  # repr tells 1.50 from 1.5 and -0 from 0


ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000), ends), max_size=30),
    st.booleans(),
    st.sampled_from([".ndjson", ".ndjson.gz"]),
)
def test_every_line_is_a_row(lines: list[tuple[int, int, bytes]], ended: bool, suffix: str) -> None:
    content, count = b"", 0
    for kind, length, end in lines:
        resource = b"" if kind == 0 else b'{"resourceType":"Observation","id":"%d","x":"%s"}' % (count, b"y" * length)
        count += kind != 0
        content += resource + end
    content = content if ended else content.rstrip()
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a[1]*{suffix}"
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        found = run_view(IDS, path)["id"].tolist()
    assert sorted(found, key=int) == [str(number) for number in range(count)]


@pytest.mark.parametrize(
    "line", [b'{"resourceType":"Observation","id":"1', b"x", b'{"a":1}{"b":2}', b'{"id":"\xff"}', b'{"id":"\\ud800"}']
)
@pytest.mark.parametrize("place", [0, 1, 4999, 5000])
def test_a_line_that_is_no_json_is_an_error_wherever_it_stands(line: bytes, place: int, tmp_path: Path) -> None:
    lines = [b'{"resourceType":"Observation","id":"%d"}' % number for number in range(5000)]
    lines.insert(place, line)
    path = tmp_path / "cut.ndjson"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(duckdb.InvalidInputException, match="Malformed JSON"):
        run_view(IDS, path)
    with DuckDBEngine(threads=1) as engine, pytest.raises((duckdb.InvalidInputException, UnicodeDecodeError)) as caught:
        engine.frame(view_table(IDS, parse_lines(engine, path)))
    assert is_unreadable(caught.value)


@pytest.mark.parametrize("line", [b"[]", b"null", b"5", b'"x"', b'{"id":"no type"}'])
def test_json_that_is_no_resource_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "others.ndjson"
    path.write_bytes(b'{"resourceType":"Observation","id":"a"}\n' + line + b'\n{"resourceType":"Observation","id":"b"}')
    with DuckDBEngine(threads=1) as engine:
        ways = [engine.frame(view_table(IDS, way(engine, path))) for way in (parse_lines, parse_plainly)]
    assert [way["id"].tolist() for way in ways] == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(
    "digits",
    ["1.00000000000000001", "0.100000000000000006", "12345678901234567890.123456789012345678", "-4.2000000000000000e0"],
)
def test_every_digit_of_a_long_decimal_is_kept(digits: str, tmp_path: Path) -> None:
    path = tmp_path / "long.ndjson"
    path.write_text(f'{{"resourceType":"Observation","id":"a","valueQuantity":{{"value":{digits}}}}}')
    assert run_view(VIEW, path)["value"].tolist() == [Decimal(digits)]


pieces = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r", b" ", b"{}", b"0123456789", b"\xff", b"x\ny\n"])


@settings(max_examples=500, deadline=None)
@given(st.lists(pieces, max_size=40).map(b"".join), st.integers(1, 40), st.booleans())
def test_a_file_is_cut_at_its_line_feeds_whatever_the_blocks(content: bytes, block: int, compressed: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("lines.ndjson.gz" if compressed else "lines.ndjson")
        path.write_bytes(gzip.compress(content) if compressed else content)
        batches = list(pa.RecordBatchReader.from_stream(Lines(path, "line", block)))
    found = [text for batch in batches for text in batch.column("line").cast(pa.binary()).to_pylist()]
    wanted = [line.strip() for line in content.split(b"\n") if line.strip()]
    assert [text.strip() for text in found if text.strip()] == wanted
    assert b"\n" not in found
    assert b"\r\n" not in found


def test_lines_are_read_anew_by_every_scan(tmp_path: Path) -> None:
    path = tmp_path / "lines.ndjson"
    path.write_bytes(b'{"resourceType":"Observation","id":"a"}\n' * 3)
    with DuckDBEngine(threads=1) as engine:
        table = view_table(IDS, parse_lines(engine, path))
        assert [len(engine.frame(table)) for _ in range(2)] == [3, 3]
        assert len(engine.frame(table.union(table))) == 6


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\n\n\n\r", b" \t\n"])
def test_a_file_of_nothing_gives_no_rows(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nothing.ndjson"
    path.write_bytes(content)
    assert run_view(IDS, path)["id"].tolist() == []


@pytest.mark.parametrize("content", [b"x" * (LONGEST + 1), b"no gzip"])
def test_what_cannot_be_cut_into_lines_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / ("no.ndjson.gz" if content == b"no gzip" else "long.ndjson")
    path.write_bytes(content)
    with pytest.raises(pa.ArrowInvalid, match=UNREADABLE) as caught:
        list(pa.RecordBatchReader.from_stream(Lines(path, "line")))
    assert is_unreadable(caught.value)


@pytest.mark.parametrize("cut", [10, 100, -9, -1])
def test_a_gzip_file_that_ends_early_is_an_error(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.ndjson.gz"
    content = b"".join(b'{"resourceType":"Observation","id":"%d"}\n' % number for number in range(3000))
    path.write_bytes(gzip.compress(content)[:cut])
    with DuckDBEngine(threads=1) as engine, pytest.raises(duckdb.InvalidInputException) as caught:
        engine.frame(view_table(IDS, parse_lines(engine, path)))
    assert is_unreadable(caught.value)

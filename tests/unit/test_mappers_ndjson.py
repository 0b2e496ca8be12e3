"""Views on files of NDJSON: every resource is a row, and no digit is lost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from mappers.view.runner import ViewDefinition, run_view

VIEW = ViewDefinition.load(
    {
        "resource": "Observation",
        "select": [
            {"column": [{"name": "id", "path": "id"}, {"name": "value", "path": "value.ofType(Quantity).value"}]}
        ],
    }
)
A, B = b'{"resourceType":"Observation","id":"a"}', b'{"resourceType":"Observation","id":"b"}'


@pytest.mark.parametrize("line", [b"[]", b"null", b"5", b'"x"', b'{"id":"no type"}', b"", b"\r", b" \t"])
def test_a_line_that_is_no_resource_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "others.ndjson"
    path.write_bytes(A + b"\r\n" + line + b"\n" + B)
    assert run_view(VIEW, path)["id"].tolist() == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\n\n\n\r", b" \t\n"])
def test_a_file_of_nothing_gives_no_rows(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nothing.ndjson"
    path.write_bytes(content)
    assert run_view(VIEW, path)["id"].tolist() == []


@pytest.mark.parametrize("line", [b'{"resourceType":"Observation","id":"1', b"x", b'{"a":1}{"b":2}', b'{"id":"\xff"}'])
@pytest.mark.parametrize("place", [0, 1, 5000])
def test_a_line_that_is_no_json_is_an_error_wherever_it_stands(line: bytes, place: int, tmp_path: Path) -> None:
    lines = [A] * 5000
    lines.insert(place, line)
    path = tmp_path / "cut.ndjson"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises((duckdb.InvalidInputException, UnicodeDecodeError)):
        run_view(VIEW, path)


@pytest.mark.parametrize(
    "digits",
    ["1.00000000000000001", "0.100000000000000006", "12345678901234567890.123456789012345678", "-4.2000000000000000e0"],
)
def test_every_digit_of_a_long_decimal_is_kept(digits: str, tmp_path: Path) -> None:
    path = tmp_path / "long.ndjson"
    path.write_text(f'{{"resourceType":"Observation","id":"a","valueQuantity":{{"value":{digits}}}}}')
    assert run_view(VIEW, path)["value"].tolist() == [Decimal(digits)]

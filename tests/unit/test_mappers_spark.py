"""The Spark engine: its HMAC and cut, what it reads and writes, what it says of errors, and its SQL."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from mappers.engines.base import Engine
from mappers.engines.spark import SparkEngine, _java_memory
from mappers.errors import CardinalityError, MappingError
from mappers.view.runner import ViewDefinition, run_view
from tests.engines import (
    Engines,
    assert_reads_files_of_any_name,
    assert_the_cutoff_is_the_last_one_set,
)

KEY = b"k" * 65


@pytest.fixture(scope="module")
def engine(engines: Engines) -> Iterator[Engine]:
    with engines.started("spark", KEY) as engine:
        yield engine


def value(engine: Engine, expression: Any) -> Any:
    """What Spark gives for an Ibis expression."""
    return engine.arrow(engine.compile(expression.name("value").as_table()))["value"].to_pylist()[0]


@pytest.mark.parametrize("message", ["", "Patient/1", "é‰😀"])
def test_the_hmac_is_that_of_python(engine: Engine, message: str) -> None:
    table = engine.register_rows("messages", pa.table({"m": [message]}))
    hashed = ibis.udf.scalar.builtin(lambda m: ..., name="periop_hmac", signature=(("string",), "string"))
    found = engine.frame(table.select(made=hashed(table["m"])))["made"].tolist()
    assert found == [hmac.new(KEY, message.encode(), hashlib.sha256).hexdigest()]


def test_the_cutoff_is_the_last_that_was_set(engine: Engine) -> None:
    assert_the_cutoff_is_the_last_one_set(engine)


def test_rows_are_registered_whole_whatever_their_chunks(engine: Engine) -> None:
    chunks = [pa.table({"n": pa.array(numbers, pa.int64())}) for numbers in ([], [1], [], [2, 3], [])]
    table = engine.register_rows("chunked", pa.concat_tables(chunks))
    assert sorted(engine.frame(table)["n"]) == [1, 2, 3]


def test_a_created_table_is_replaced_and_keeps_types(engine: Engine) -> None:
    rows = pa.table({"n": pa.array([2, 1, None], pa.int64()), "d": pa.array([Decimal("1.50"), None, None])})
    table = engine.register_rows("given", rows)
    typed = table.mutate(length=ibis.literal("abc").length(), items=ibis.array([table["n"]]))
    engine.create_table_as("created", engine.compile(typed.order_by(typed["n"].desc())))
    found = engine.arrow(engine.compile(engine.table("created").order_by("n")))
    assert found["n"].to_pylist() == [1, 2, None]
    assert found["d"].to_pylist() == [None, Decimal("1.50"), None]
    assert found.schema.field("length").type == pa.int32()  # what Ibis says of a length
    engine.create_table_as("created", "SELECT 'x' AS other")
    assert engine.arrow(engine.compile(engine.table("created")))["other"].to_pylist() == ["x"]


def test_a_result_comes_in_its_order_and_in_batches(engine: Engine) -> None:
    sql = "SELECT id FROM range(0, 100, 1, 3) ORDER BY id DESC"
    batches = list(engine.reader(sql, 30))
    assert [number for batch in batches for number in batch["id"].to_pylist()] == list(range(99, -1, -1))
    assert max(batch.num_rows for batch in batches) <= 30
    assert engine.arrow(f"{sql} LIMIT 0").num_rows == 0


def test_a_view_is_replaced(engine: Engine) -> None:
    table = engine.register_rows("numbers", pa.table({"n": [1, 2, 3]}))
    for least in (3, 2):
        engine.create_view("chosen", engine.compile(table.filter(table["n"] >= least)))
    assert engine.arrow("SELECT n FROM chosen ORDER BY n")["n"].to_pylist() == [2, 3]


def test_parquet_files_of_any_name_are_read_as_one_table(engine: Engine, tmp_path: Path) -> None:
    assert_reads_files_of_any_name(engine, tmp_path)


@pytest.mark.parametrize("name", ["it's [1].ndjson", "all.ndjson.gz"])
def test_lines_of_a_file_are_resources(engine: Engine, tmp_path: Path, name: str) -> None:
    lines = '{"resourceType":"Patient","id":"a"}\r\n\n \t\n  {"resourceType": "Patient", "id": "b"}\n12\n'
    path = tmp_path / name
    path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    view = ViewDefinition.load({"resource": "Patient", "select": [{"column": [{"name": "id", "path": "id"}]}]})
    assert sorted(run_view(view, path, engine)["id"]) == ["a", "b"]


@pytest.mark.parametrize(
    "line", ["{'a':1}", '{"a":1}{"b":2}', '{"a":', '{"a":1}]', '{"a":1}],"secret"', "secret", '{"a":01}']
)
def test_a_line_that_is_no_json_names_the_file_and_not_the_line(engine: Engine, tmp_path: Path, line: str) -> None:
    path = tmp_path / "it's.ndjson"
    path.write_text(f'{{"resourceType":"Patient"}}\n{line}\n', encoding="utf-8")
    view = ViewDefinition.load({"resource": "Patient", "select": [{"column": [{"name": "id", "path": "id"}]}]})
    with pytest.raises(MappingError) as caught:
        run_view(view, path, engine)
    assert str(caught.value) == f"{path}: a line is not JSON; NDJSON has one whole resource a line"


def test_several_values_name_the_column(engine: Engine) -> None:
    view = ViewDefinition.load({"resource": "Patient", "select": [{"column": [{"name": "f", "path": "name.family"}]}]})
    with pytest.raises(CardinalityError) as caught:
        run_view(view, [{"resourceType": "Patient", "name": [{"family": "secret"}, {"family": "b"}]}], engine)
    assert caught.value.element == "select[0].column[0].path"
    assert "secret" not in str(caught.value)


def test_what_spark_says_of_values_is_not_repeated(engine: Engine) -> None:
    with pytest.raises(MappingError, match=r"Spark could not run the mapping \(CAST_INVALID_INPUT\)") as caught:
        engine.arrow("SELECT CAST('secret' AS INT) AS n")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


# Where Ibis writes another thing for Spark than DuckDB does


@pytest.mark.parametrize(("index", "expected"), [(0, "a"), (1, "b"), (2, None), (-1, "b"), (-3, None)])
def test_an_index(engine: Engine, index: int, expected: str | None) -> None:
    assert value(engine, ibis.array(["a", "b"])[index]) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("1\n", r"^[0-9]$", False),
        ("1", r"^[0-9]$", True),
        ("a$", r"a\$$", True),
        ("$", r"^[$]$", True),
        ("\r", "^.$", True),
    ],
)
def test_patterns_are_those_of_re2(engine: Engine, text: str, pattern: str, found: bool) -> None:
    assert value(engine, ibis.literal(text).re_search(pattern)) is found


@pytest.mark.parametrize("text", ["2024", "2024-05", "today", "2024-05-01x", "10:00", "+2024-05-01", "2024-02-30"])
def test_what_is_no_date_is_null(engine: Engine, text: str) -> None:
    assert value(engine, ibis.literal(text).try_cast("date")) is None
    assert value(engine, ibis.literal(text).try_cast("timestamp('UTC')")) is None


def test_integers_are_divided_with_every_digit(engine: Engine) -> None:
    for left, right in ((9007199254740993, 1), (7, 2), (-7, 2), (7, -2), (-7, -2), (-8, 2)):
        assert value(engine, ibis.literal(left, "int64") // ibis.literal(right, "int64")) == left // right


def test_nulls_among_arrays_and_a_text_that_is_split(engine: Engine) -> None:
    nested = ibis.literal([["a"], None, ["b", None]], "array<array<string>>")
    assert value(engine, nested.flatten()) == ["a", "b", None]
    assert value(engine, ibis.literal("a.b|c").split(".")) == ["a", "b|c"]
    assert value(engine, ibis.literal([], "array<string>").join(",")) is None


def test_decimals_keep_their_digits(engine: Engine, tmp_path: Path) -> None:
    digits = "12345678901234567890.123456789012345678"
    text = f'{{"resourceType":"Observation","valueQuantity":{{"value":{digits}}}}}'
    path = {"name": "v", "path": "value.ofType(Quantity).value"}
    more = {"name": "w", "path": "value.ofType(Quantity).value + 0.000000000000000001"}
    view = ViewDefinition.load({"resource": "Observation", "select": [{"column": [path, more]}]})
    file = tmp_path / "observation.ndjson"
    file.write_text(text, encoding="utf-8")
    found = run_view(view, file, engine)
    assert found["v"].tolist() == [Decimal(digits)]
    assert found["w"].tolist() == [Decimal("12345678901234567890.123456789012345679")]


# Without Spark


def test_without_spark_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(MappingError, match=r'^Spark is not installed; install "periop-fhir\[spark\]"'):
        SparkEngine()


# PySpark leaves the pipe open that it made for a Java that never came.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_java_a_sentence_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="PySpark is not installed")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    with pytest.raises(MappingError, match=r"^Spark did not start; it needs Java 17"):
        SparkEngine(temp_directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("limit", "java"), [("4GB", "4096m"), ("512MB", "512m"), ("1.5GiB", "1536m")])
def test_memory_as_java_writes_it(limit: str, java: str) -> None:
    assert _java_memory(limit) == java


def test_a_limit_that_is_not_understood(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="the memory limit '4' is not understood"):
        SparkEngine(memory_limit="4", temp_directory=tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Formal notations in text are read as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable

import ibis
import ibis.expr.types as ir
import pytest

from mappers.cohort import notation

ENGINE = ibis.duckdb.connect()


def read(function: Callable[[ir.Value], ir.Value], text: str) -> object:
    rows = ibis.memtable({"text": [text]})
    found = ENGINE.to_pyarrow(rows.select(found=function(rows["text"])))
    return found["found"][0].as_py()


@pytest.mark.parametrize(
    ("text", "t", "t_prefix", "n", "n_prefix"),
    [
        ("cT3 N2 M0", "T3", "c", "N2", "c"),
        ("ypT1a(m) ypN0 (0/12)", "T1a", "yp", "N0", "yp"),
        ("ypT0N0", "T0", "yp", "N0", "yp"),
        ("pTis", "Tis", "p", None, "p"),
        ("T2a2", "T2a", "", None, ""),
        ("ypT1mi, ypN1mi, L0 V0 Pn0 R0", "T1mi", "yp", "N1", "yp"),
        ("TX NX", "TX", "", "NX", ""),
        ("T5", None, "", None, ""),
        ("T3 or T4", None, "", None, ""),
        ("no tumour", None, "", None, ""),
    ],
)
def test_tnm(text: str, t: str | None, t_prefix: str, n: str | None, n_prefix: str) -> None:
    assert read(lambda written: notation.category(written, "T"), text) == t
    assert read(lambda written: notation.category(written, "N"), text) == n
    if t is not None:
        assert read(lambda written: notation.prefix(written, "T"), text) == t_prefix
    if n is not None:
        assert read(lambda written: notation.prefix(written, "N"), text) == n_prefix


@pytest.mark.parametrize(
    ("text", "status"),
    [("R0", "R0"), (" r1 (is)", None), ("R1(is)", "R1"), ("RX", "RX"), ("R3", None), ("margins R0", None)],
)
def test_residual_tumour(text: str, status: str | None) -> None:
    assert read(notation.residual, text) == status


@pytest.mark.parametrize(
    ("text", "comparator", "low", "high", "unit"),
    [
        ("<5 %", "<", None, 5.0, "%"),
        ("≤ 10%", "<=", None, 10.0, "%"),
        ("5-10 %", None, 5.0, 10.0, "%"),
        ("5 % – 10 %", None, 5.0, 10.0, "%"),
        ("5,5 percent", None, None, 5.5, "%"),
        ("0.05", None, None, 0.05, None),
        ("0", None, None, 0.0, None),
        ("ca. 5", None, None, None, None),
        ("5 % of the tumour bed", None, None, None, None),
    ],
)
def test_percentage(text: str, comparator: str | None, low: float | None, high: float | None, unit: str | None) -> None:
    expected = {"comparator": comparator, "low": low, "high": high, "unit": unit}
    assert read(notation.percentage, text) == expected


@pytest.mark.parametrize(
    ("text", "grade", "term"),
    [
        ("Grade 3 Diarrhea, CTCAE", "3", "diarrhea"),
        ("Diarrhea grade 3", "3", "diarrhea"),
        ("Diarrhea (CTCAE grade 2)", "2", "diarrhea"),
        ("Diarrhea grade 3, then grade 1", None, None),
        ("Diarrhea", None, None),
    ],
)
def test_graded_term(text: str, grade: str | None, term: str | None) -> None:
    assert read(lambda written: notation.graded_term(written)[0], text) == grade
    assert read(lambda written: notation.graded_term(written)[1], text) == term

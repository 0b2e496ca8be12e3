"""The arithmetic of decimals, against Python's decimal with more digits than any result has."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.fhirpath.arrays import Scope
from mappers.fhirpath.n1 import decimals

UNIT = Decimal(1).scaleb(-18)
NUMBERS = st.one_of(
    st.decimals(min_value=-(10**6), max_value=10**6, places=2),
    st.decimals(min_value=-(10**10), max_value=10**10, places=18),
    st.decimals(min_value=-(10**19), max_value=10**19, places=4),
    st.sampled_from([Decimal(0), UNIT, -UNIT, Decimal(1), Decimal(3), Decimal(99999999999999999999)]),
)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def computed(engine: DuckDBEngine, pairs: list[tuple[Decimal, Decimal]]) -> list[dict[str, Any]]:
    columns = [pa.array([Decimal(pair[side]) for pair in pairs], pa.decimal128(38, 18)) for side in (0, 1)]
    table = engine.register_rows("pairs", pa.table(columns, names=["a", "b"]))
    one, other, scope = table["a"], table["b"], Scope(0, "pair")
    made = table.select(
        sum=decimals.add(one, other, scope),
        difference=decimals.subtract(one, other, scope),
        product=decimals.multiply(one, other, scope),
        quotient=decimals.divide(one, other, scope),
        whole=decimals.whole(one, other, scope),
        remainder=decimals.remainder(one, other, scope),
        text=decimals.text_of(one),
    )
    rows: list[dict[str, Any]] = engine.arrow(engine.compile(made)).to_pylist()
    return rows


def exact(one: Decimal, other: Decimal) -> dict[str, Any]:
    """Every result, or None where it is said not to fit: the limits of the module."""
    with localcontext() as context:
        context.prec = 100
        large = max(abs(one), abs(other))
        fits = large < decimals.RANGE * 4
        quotient = one / other if other else None
        small = fits and quotient is not None and abs(quotient) < decimals.QUOTIENT
        product = one * other
        return {
            "sum": one + other if fits else None,
            "difference": one - other if fits else None,
            "product": product.quantize(UNIT, ROUND_HALF_UP)
            if large < decimals.RANGE and abs(product) < decimals.RANGE
            else None,
            "quotient": quotient.quantize(UNIT, ROUND_HALF_UP)
            if small and abs(other) < decimals.DIVISOR and quotient is not None
            else None,
            "whole": int(quotient.to_integral_value(ROUND_DOWN)) if small and quotient is not None else None,
            "remainder": one - other * (one / other).to_integral_value(ROUND_DOWN) if fits and other else None,
            "text": f"{one:f}".rstrip("0").rstrip(".") if "." in f"{one:f}" else f"{one:f}",
        }


def at_a_limit(name: str, one: Decimal, other: Decimal) -> bool:
    """Whether a limit is met so closely that a double may see it on the other side."""
    with localcontext() as context:
        context.prec = 100
        size = abs(one * other) / decimals.RANGE if name == "product" else Decimal(0)
        if name in ("quotient", "whole") and other:
            size = abs(one / other) / decimals.QUOTIENT
    return abs(size - 1) < Decimal("1e-10")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS)
@example(pairs=[(Decimal(2), Decimal(3)), (Decimal(-2), Decimal(3)), (Decimal(1), Decimal(0))])
@example(pairs=[(Decimal("0.000000000000000001"), Decimal("0.5")), (Decimal(99999999999999999999), Decimal(1))])
def test_decimals_are_exact_or_empty(engine: DuckDBEngine, pairs: list[tuple[Decimal, Decimal]]) -> None:
    for (one, other), row in zip(pairs, computed(engine, pairs), strict=True):
        for name, want in exact(one, other).items():
            if not at_a_limit(name, one, other):
                same = row[name] == want or (name == "text" and {row[name], want} <= {"0", "-0"})
                assert same, (name, one, other, row[name], want)

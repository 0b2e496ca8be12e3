"""Decimals without a double: product, quotient, remainder and rounding of DECIMAL(38,18), the same on every engine.

An engine divides decimals as doubles or to six places, and ends the query where a product does not fit. Here
everything is exact to 18 places, rounded half away from zero, and what does not fit is null (FHIRPath N1, 6.6: what
overflows is empty): a number of 10^19 or more in a product, a quotient of 10^15 or more, a divisor of 10^11 or more.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Scope, bind
from mappers.fhirpath.operations import RANGE, Product, decimal, forced, truncated_multiple

WHOLE, FRACTION = dt.Decimal(19, 0), dt.Decimal(18, 18)
DIGITS = 6  # of a quotient, computed in one step of a division
STEP = dt.Decimal(DIGITS + 1, 0)
DIVISOR = Decimal(10) ** 11
QUOTIENT = 10**15  # below it a double tells one whole number from the next


def product(one: ir.Value, other: ir.Value) -> Any:
    """Multiply decimals that have 38 digits at most together."""
    return forced(Product(one, other).to_expr(), DECIMAL)


def double(value: float) -> Any:
    """Return a literal of a double; written as a text, because Ibis 12 fails to write one for Spark."""
    return forced(ibis.literal(str(value)), dt.float64)


def add(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Return `one + other`; null where it does not fit."""
    return _within(one, other, RANGE * 4, scope, lambda pair: forced(pair["one"] + pair["other"], DECIMAL))


def subtract(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Return `one - other`; null where it does not fit."""
    return _within(one, other, RANGE * 4, scope, lambda pair: forced(pair["one"] - pair["other"], DECIMAL))


def multiply(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Multiply whole and fractional parts apart, so that no part has more than 38 digits."""

    def total(pair: Any) -> ir.Value:
        (a, b), (c, d) = _parts(pair["one"]), _parts(pair["other"])
        # The size of the product of the whole parts is a matter of digits: 10^19 or more does not fit.
        fits = a.abs().cast(dt.float64) * c.abs().cast(dt.float64) < double(float(RANGE))
        # (a + b)(c + d) with whole parts a, c and fractions b, d; no single product exceeds 38 digits.
        parts = product(a, c) + product(a, d) + product(b, c) + product(b, d)
        return ibis.cases((fits, forced(parts, DECIMAL)))

    return _within(one, other, RANGE, scope, total)


def divide(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Return `one / other`; null where the divisor is 0.

    Long division in steps of six digits. A digit group is computed as a double of what is divisible without
    a remainder, which makes it a whole number and exact.
    """

    def quotient(pair: Any) -> ir.Value:
        divisor = pair["other"]
        fits = (divisor != 0) & (divisor.abs() < decimal(DIVISOR)) & _below(pair["one"], divisor)
        negative = (pair["one"] < 0) != (divisor < 0)
        size = _long_division(pair["one"].abs(), divisor.abs(), scope)
        return ibis.cases((fits, ibis.ifelse(negative, forced(-size, DECIMAL), size)))

    return _within(one, other, RANGE * 4, scope, quotient)


def truncated(value: Any) -> ir.Value:
    """Return the whole part, as DECIMAL(38,18)."""
    return forced(value - forced(value % decimal(1), DECIMAL), DECIMAL)


def whole(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Return `one div other`, the quotient without its fraction; null where the divisor is 0 or it does not fit."""

    def quotient(pair: Any) -> ir.Value:
        divisor = pair["other"]
        fits = (divisor != 0) & _below(pair["one"], divisor)
        return ibis.cases((fits, _exact(truncated_multiple(pair["one"], divisor), divisor)))

    return _within(one, other, RANGE * 4, scope, quotient)


def remainder(one: Any, other: Any, scope: Scope) -> ir.Value:
    """Return `one mod other`, of the sign of `one`; null where the divisor is 0."""

    def rest(pair: Any) -> ir.Value:
        return ibis.cases((pair["other"] != 0, forced(pair["one"] % pair["other"], DECIMAL)))

    return _within(one, other, RANGE * 4, scope, rest)


def text_of(value: Any) -> ir.Value:
    """Return the digits of a decimal, without the zeros that its type adds: `1.500000000000000000` as `1.5`."""
    return forced(forced(value, DECIMAL), dt.string).re_replace(r"\.?0+$", "")


def _within(one: Any, other: Any, limit: Decimal, scope: Scope, body: Callable[[Any], ir.Value]) -> ir.Value:
    """Apply `body` to a pair of decimals below `limit`; null otherwise."""
    # In one struct, so that one lambda binds both and each is written once.
    pair = ibis.struct({"one": forced(one, DECIMAL), "other": forced(other, DECIMAL)})

    def guarded(bound: Any) -> ir.Value:
        small = (bound["one"].abs() < decimal(limit)) & (bound["other"].abs() < decimal(limit))
        return ibis.cases((small, body(bound)))

    return bind(pair, scope, guarded)


def _parts(value: Any) -> tuple[Any, Any]:
    whole_part = truncated(value)
    return forced(whole_part, WHOLE), forced(value - whole_part, FRACTION)


def _below(one: Any, divisor: Any) -> Any:
    return one.abs().cast(dt.float64) < divisor.abs().cast(dt.float64) * double(QUOTIENT)


def _exact(multiple: Any, divisor: Any) -> Any:
    """Divide a multiple of the divisor by it."""
    # Both are rounded to a double, and the quotient is a whole number below 10^15: it is off by less than a half.
    return (multiple.cast(dt.float64) / divisor.cast(dt.float64)).round().cast(dt.int64)


def _long_division(one: Any, divisor: Any, scope: Scope) -> Any:
    inner = [Scope(scope.depth, f"{scope.prefix}{step}") for step in range(4)]
    first = ibis.struct({"left": forced(one % divisor, DECIMAL), "made": _group(one, divisor)})

    def step(number: int, state: Any) -> ir.Value:
        # After 18 digits what is left rounds the last one, half away from zero: signs are put on afterwards.
        if number == 3:
            half = ibis.ifelse(forced(state["left"] + state["left"], DECIMAL) >= divisor, 1, 0)
            return forced(state["made"] + _shifted(half, 18), DECIMAL)
        # The divisor is below 10^11, so what is left of it with six more digits has at most 17 + 18.
        shifted = product(forced(state["left"], dt.Decimal(29, 18)), decimal(10**DIGITS, STEP))
        made = forced(state["made"] + _shifted(_group(shifted, divisor), DIGITS * (number + 1)), DECIMAL)
        following = ibis.struct({"left": forced(shifted % divisor, DECIMAL), "made": made})
        return bind(following, inner[number + 1], lambda bound: step(number + 1, bound))

    return bind(first, inner[0], lambda state: step(0, state))


def _group(one: Any, divisor: Any) -> Any:
    return forced(_exact(truncated_multiple(one, divisor), divisor), DECIMAL)


def _shifted(value: Any, places: int) -> Any:
    """Return a small whole number as the digits that end at a decimal place."""
    unit = decimal(Decimal(1).scaleb(-places), dt.Decimal(18, 18))
    return product(forced(value, STEP), unit)

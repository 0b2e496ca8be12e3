"""Functions of FHIRPath on numbers (N1, 5.7), and the operators of arithmetic (N1, 6.6).

Decimals are exact to 18 places (`mappers.fhirpath.n1.decimals`). Roots, powers and logarithms are computed as doubles
and rounded to the eight places that FHIRPath asks for. What does not exist or does not fit is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import INTEGERS
from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Scope, Values, bind
from mappers.fhirpath.collection import Collection, empty, kind, plain
from mappers.fhirpath.comparison import reject_choice
from mappers.fhirpath.language import Args, Compiler, Function, Implementation, Operator
from mappers.fhirpath.n1 import decimals, quantities
from mappers.fhirpath.operations import decimal, forced, truncated_multiple

PLACES = 8
LONG = dt.Decimal(38, 0)  # holds the product of two 64-bit integers


def arithmetic(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return the result of `+`, `-`, `*`, `/`, `div`, `mod` or `&`.

    Raises:
        ViewError: an operand of another type.
        UnsupportedError: an operation on dates.
    """
    reject_choice(compiler, operator, left, right)
    one, other = compiler.single(left, depth), compiler.single(right, depth)
    kinds = {kind(side.type) for side in (left, right) if side.type}
    # `&` takes an empty side for the empty string, `+` does not.
    if kinds <= {"text"} and (operator == "&" or (operator == "+" and kinds)):
        return _joined(operator, one, other)
    if not left.type or not right.type:
        return empty()
    if kinds == {"number"} and operator != "&":
        return _number(operator, one, other, depth)
    if any(quantities.is_quantity(side) for side in (left, right)) and kinds <= {*quantities.QUANTITIES, "number"}:
        return quantities.arithmetic(compiler, operator, left, right, depth)
    if kinds & {"date", "dateTime", "instant", "time"} and operator in ("+", "-"):
        raise compiler.unsupported(f"'{operator}' on a date or time")
    raise compiler.error(f"'{operator}' does not take {left.type} and {right.type}")


def _joined(operator: str, one: Collection, other: Collection) -> Collection:
    texts = [plain(side, 0) for side in (one, other)]

    def make(values: Values) -> ir.Value:
        first, second = (side.make(values).cast(dt.string) for side in texts)
        if operator == "&":
            first, second = first.fill_null(""), second.fill_null("")
        return first.concat(second)

    return Collection("string", False, make, clean=True)


def _number(operator: str, one: Collection, other: Collection, depth: int) -> Collection:
    if one.type in INTEGERS and other.type in INTEGERS and operator in INTEGER_OPERATORS:
        result, work = "integer", INTEGER_OPERATORS[operator]
    else:
        result = "integer" if operator == "div" else "decimal"
        work = partial(DECIMAL_OPERATORS[operator], scope=Scope(depth, "pair_of_numbers"))
    return Collection(result, False, lambda values: work(one.make(values), other.make(values)))


def _long(work: Callable[[Any, Any], Any]) -> Callable[[Any, Any], ir.Value]:
    """Return the operation on 64-bit integers; null where the result is none."""

    def make(one: Any, other: Any) -> ir.Value:
        # By way of text, whose cast gives null beyond 64 bits where an engine would end the query.
        made: ir.Value = work(forced(one, LONG), forced(other, LONG))
        return forced(made, LONG).cast(dt.string).try_cast(dt.int64)

    return make


def _whole(one: Any, other: Any) -> ir.Value:
    divisor = other.nullif(0)
    # Towards 0, as FHIRPath has it; `//` goes downwards for negative numbers.
    quotient = (one.abs() // divisor.abs()) * one.sign().cast(dt.int64) * divisor.sign().cast(dt.int64)
    return quotient.cast(dt.int64)


INTEGER_OPERATORS: dict[str, Callable[[Any, Any], ir.Value]] = {
    "+": _long(lambda one, other: one + other),
    "-": _long(lambda one, other: one - other),
    "*": _long(lambda one, other: one * other),
    "div": _whole,
    "mod": lambda one, other: (one % other.nullif(0)).cast(dt.int64),
}
DECIMAL_OPERATORS: dict[str, Callable[..., ir.Value]] = {
    "+": decimals.add,
    "-": decimals.subtract,
    "*": decimals.multiply,
    "/": decimals.divide,
    "div": decimals.whole,
    "mod": decimals.remainder,
}


def _numeric(compiler: Compiler, name: str, found: Collection, depth: int) -> Collection:
    if found.choice or (found.type and kind(found.type) != "number"):
        raise compiler.error(f"{name}() takes a number, not {found.choice.name if found.choice else found.type}")
    return compiler.single(found, depth)


def _of_decimal(name: str, result: str, work: Callable[[Any], ir.Value]) -> Implementation:
    """Return a function of one decimal; an integer is its own result where the result is an integer."""

    def function(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
        one = _numeric(compiler, name, base, depth)
        if not base.type or (base.type in INTEGERS and result == "integer"):
            return one
        scope = Scope(depth, f"{name}_number")
        return Collection(result, False, lambda values: bind(forced(one.make(values), DECIMAL), scope, work))

    return function


def _to_integer(value: Any) -> ir.Value:
    return decimals.text_of(value).try_cast(dt.int64)


def _floor(value: Any) -> ir.Value:
    down = decimals.truncated(value)
    return _to_integer(ibis.ifelse(value < down, forced(down - decimal(1), DECIMAL), down))


def _ceiling(value: Any) -> ir.Value:
    up = decimals.truncated(value)
    return _to_integer(ibis.ifelse(value > up, forced(up + decimal(1), DECIMAL), up))


def _of_double(condition: Callable[[Any], Any], work: Callable[[Any], Any]) -> Callable[[Any], ir.Value]:
    def make(value: Any) -> ir.Value:
        number = value.cast(dt.float64)
        return ibis.cases((condition(number), _rounded(work(number))))

    return make


def _rounded(number: Any) -> ir.Value:
    return number.round(PLACES).cast(dt.string).try_cast(DECIMAL)


def _abs(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    one = _numeric(compiler, "abs", base, depth)
    if not base.type:
        return one
    type_name = "integer" if base.type in INTEGERS else "decimal"
    return Collection(type_name, False, lambda values: one.make(values).abs())


def _round(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Round to the nearest, half away from zero."""
    one = _numeric(compiler, "round", base, depth)
    places = 0
    if args:
        precision = compiler.compile(args[0], focus, depth)
        if precision.type != "integer" or precision.literal is None:
            raise compiler.unsupported("round() with a precision that is no integer literal or constant")
        places = int(precision.literal)
    if places < 0:
        raise compiler.error("round() takes a precision of 0 or more")
    # Decimals have 18 places, so rounding to more changes nothing.
    if not base.type or places >= DECIMAL.scale:
        return one
    unit = decimal(f"{10**-places:.{places}f}" if places else "1")
    half = decimal("0." + "0" * places + "5")

    def nearest(value: Any) -> ir.Value:
        return truncated_multiple(forced(ibis.ifelse(value < 0, value - half, value + half), DECIMAL), unit)

    scope = Scope(depth, "rounded")
    return Collection("decimal", False, lambda values: bind(forced(one.make(values), DECIMAL), scope, nearest))


def _power(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    one = _numeric(compiler, "power", base, depth)
    exponent = _numeric(compiler, "power", compiler.compile(args[0], focus, depth), depth)
    # An integer only if the exponent is known not to be negative: the type is fixed before any data.
    integers = base.type in INTEGERS and exponent.type in INTEGERS and not (exponent.literal or "-").startswith("-")

    def make(values: Values) -> ir.Value:
        number, power = one.make(values).cast(dt.float64), exponent.make(values).cast(dt.float64)
        # The root of a negative number is no real number; SQL would end the query or give NaN.
        real = (number > 0) | ((number == 0) & (power >= 0)) | ((number < 0) & (power == power.floor()))
        made = ibis.cases((real, number**power))
        if integers:
            return ibis.cases((made.abs() < decimals.double(2.0**53), made.round().cast(dt.int64)))
        return _rounded(made)

    return Collection("integer" if integers else "decimal", False, make)


def _log(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    one = _numeric(compiler, "log", base, depth)
    other = _numeric(compiler, "log", compiler.compile(args[0], focus, depth), depth)

    def make(values: Values) -> ir.Value:
        number, foot = one.make(values).cast(dt.float64), other.make(values).cast(dt.float64)
        known = (number > 0) & (foot > 0) & (foot != 1)
        return ibis.cases((known, _rounded(number.ln() / foot.ln())))

    return Collection("decimal", False, make)


MATH: dict[str, Function] = {
    "abs": Function(_abs),
    "ceiling": Function(_of_decimal("ceiling", "integer", _ceiling)),
    "floor": Function(_of_decimal("floor", "integer", _floor)),
    "truncate": Function(_of_decimal("truncate", "integer", lambda value: _to_integer(decimals.truncated(value)))),
    "round": Function(_round, 0, 1),
    "sqrt": Function(_of_decimal("sqrt", "decimal", _of_double(lambda x: x >= 0, lambda x: x.sqrt()))),
    "exp": Function(_of_decimal("exp", "decimal", _of_double(lambda x: x < 47, lambda x: x.exp()))),
    "ln": Function(_of_decimal("ln", "decimal", _of_double(lambda x: x > 0, lambda x: x.ln()))),
    "log": Function(_log, 1, 1),
    "power": Function(_power, 1, 1),
}
ARITHMETIC: dict[str, Operator] = dict.fromkeys((*DECIMAL_OPERATORS, "&"), arithmetic)

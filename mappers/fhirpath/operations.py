"""Operations that Ibis 12 does not have: a fold, an exact product, and decimals of an exact type."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.rules as rlz
import ibis.expr.types as ir
from ibis.common.annotations import attribute

from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Scope

RANGE = Decimal(10) ** 19  # decimals below it can be added and halved within DECIMAL(38,18)


class Product(ops.Value):  # type: ignore[misc]  # Ibis is untyped
    """`left * right` of decimals whose scales Ibis cannot bring together; the engine keeps all digits."""

    left: ops.Value[dt.Decimal]
    right: ops.Value[dt.Decimal]

    shape = rlz.shape_like("args")
    dtype = dt.Decimal(38, 36)


class Fold(ops.Value):  # type: ignore[misc]  # Ibis is untyped
    """`body` of the accumulator and an item, item by item, from `start` on.

    Folds stay inside a row and inside a lambda, where DuckDB takes no subquery, so a recursive query cannot stand in
    for them. DuckDB's name for a fold is `list_reduce`, Spark's is `aggregate`.
    """

    arg: ops.Value[dt.Array]
    start: ops.Value
    body: ops.Value
    accumulator: ops.Argument
    item: ops.Argument

    shape = rlz.shape_like("arg")

    @attribute  # type: ignore[untyped-decorator]
    def dtype(self) -> dt.DataType:
        return self.start.dtype


def fold(array: ir.Value, start: ir.Value, scope: Scope, step: Callable[[Any, Any], ir.Value]) -> Any:
    """Fold an array by `step(accumulator, item)`; the accumulator has the type of `start`.

    `scope` names the parameters. Null for a null array, `start` for an empty one.
    """
    # Parameters of the lambda, named like those of `map_items` so that nested folds do not hide each other.
    node = array.op()
    accumulator = ops.Argument(name=f"{scope.name}_made", shape=node.shape, dtype=start.type())
    item = ops.Argument(name=f"{scope.name}_item", shape=node.shape, dtype=array.type().value_type)
    body = step(accumulator.to_expr(), item.to_expr()).cast(start.type())
    return Fold(array, start=start, body=body, accumulator=accumulator, item=item).to_expr()


def forced(value: ir.Value, dtype: dt.DataType) -> Any:
    """Cast to a type, even where Ibis takes the value to be of it already: engines give decimals other scales."""
    return ops.Cast(value, to=dtype).to_expr()


def decimal(value: int | str | Decimal, dtype: dt.DataType = DECIMAL) -> Any:
    """Return a literal, exactly of the type."""
    return forced(ibis.literal(f"{Decimal(value):f}"), dtype)


def truncated_multiple(one: Any, divisor: Any) -> Any:
    """Return the part of `one` that is divisible without a remainder."""
    return forced(one - forced(one % divisor, DECIMAL), DECIMAL)

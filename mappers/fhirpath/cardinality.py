"""The end of a query that finds several values where a path takes one."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

SEVERAL = "periop: several values: "  # begins the message; the place in the view follows


def stop(message: str) -> Any:
    """Return a call of the engine's own function that ends the query with a message; its type is text."""
    return _end(message)


def _error(message: str) -> Any: ...


_end = ibis.udf.scalar.builtin(name="error", signature=((dt.string,), dt.string))(_error)


def only(array: ir.Value, element: str) -> ir.Value:
    """Return the single item of an array without nulls; several items stop the query, null where there is none."""
    # The error has the type of an item, so that both branches of the case agree.
    first = array[0]
    return ibis.cases((array.length() > 1, stop(SEVERAL + element).cast(first.type())), else_=first)

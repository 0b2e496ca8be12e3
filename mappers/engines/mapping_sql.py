"""SQL that both engines write in the same way: the operations of our own, and two corrections of Ibis 12.

Ibis finds the writer of an operation by its name, `visit_<Operation>`, on the compiler of a backend. Each engine has a
subclass of that compiler, so that Ibis stays as it is for the rest of the process.
"""

# ruff: noqa: N802  Ibis finds the writer of an operation by its name

from __future__ import annotations

from typing import Any

import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler


class MappingSQL:
    """The shared writers, to be mixed into a compiler of Ibis before its own class."""

    __slots__ = ()

    def visit_Product(self, _op: Any, *, left: Any, right: Any) -> Any:
        return sge.paren(sge.Mul(this=sge.paren(left), expression=sge.paren(right)))

    def visit_IsNull(self, _op: Any, *, arg: Any) -> Any:
        """Write `(NOT x) IS NULL`: Ibis leaves out the brackets, and then the NOT is taken of `x IS NULL`."""
        return _bracketed(arg).is_(sge.Null())

    def visit_NotNull(self, _op: Any, *, arg: Any) -> Any:
        """Write brackets as `visit_IsNull` does."""
        return _bracketed(arg).is_(sge.Not(this=sge.Null()))

    def visit_Substring(self: Any, op: Any, *, arg: Any, start: Any, length: Any) -> Any:
        """Write a part that begins at a known place with the text once.

        Ibis writes the text twice, to count from its end where the place is negative, and long paths in twice the SQL.
        """
        if not (isinstance(op.start, ops.Literal) and op.start.value >= 0):
            return SQLGlotCompiler.visit_Substring(self, op, arg=arg, start=start, length=length)
        return self.f.substring(arg, op.start.value + 1, *([] if length is None else [length]))


def _bracketed(arg: Any) -> Any:
    """Put an operator in brackets; leave a plain value."""
    operator = isinstance(arg, (sge.Unary, sge.Binary, sge.Predicate)) and not isinstance(arg, (sge.Paren, sge.Dot))
    return sge.Paren(this=arg) if operator else arg

"""The rows of a view."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING

from rich.table import Table

from schedules.cli.tables.base import new_table, text_cells

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ROWS = 1_000  # of a view: rich lays out a whole table at once, and no one reads more


def rows_table(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
    """Return the first `TABLE_ROWS` rows of a view as a table; a null is an empty cell."""
    import pyarrow as pa

    from schedules.cli.view_formats import cell_text, values_of

    table = new_table()
    for field in schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_decimal(field.type)
        # fold: a long value continues on the next line; by default rich would cut it off with an ellipsis.
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in islice(chain.from_iterable(map(values_of, batches)), TABLE_ROWS):
        table.add_row(*text_cells(*map(cell_text, row)))
    return table

"""The errors of this package; each message says what is wrong, where, and what to do, in one sentence.

    AnalyticsError
    ├── AnalysisError       the given cohort tables cannot be analysed: names the table and the column
    ├── PoolingError        results of sites cannot be pooled: names each file and what is wrong with it
    └── NotReleasedError    something made a `Released` without disclosure control (a bug; also a TypeError)

No error carries a patient's identifier or value.
"""

from __future__ import annotations


class AnalyticsError(Exception):
    """Base of the errors of `analytics`."""


class AnalysisError(AnalyticsError):
    """A cohort table is missing, incomplete or contradicts itself.

    `table` and `column` name the place (`column` is None where the table as a whole is meant).
    """

    def __init__(self, table: str, column: str | None, problem: str, remedy: str) -> None:
        self.table = table
        self.column = column
        place = table if column is None else f"{table}.{column}"
        super().__init__(f"{place}: {problem}; {remedy}.")


class PoolingError(AnalyticsError):
    """Results of several sites do not belong together; a line for each file and fault."""


class NotReleasedError(AnalyticsError, TypeError):
    """Only `analytics.disclosure.control` makes a `Released`."""

"""Text that a spreadsheet opens as text."""

from __future__ import annotations

# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection). Excel reads the full-width
# forms as the signs themselves.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def escape_formula(text: str | None) -> str:
    """Return `text` for a cell: behind an apostrophe where a spreadsheet would read a formula; empty for None.

    >>> escape_formula("=1+1"), escape_formula("Age"), escape_formula(None)
    ("'=1+1", 'Age', '')
    """
    if text is None:
        return ""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text

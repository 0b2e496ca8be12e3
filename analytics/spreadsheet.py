"""Text that a spreadsheet opens as text."""

from __future__ import annotations

import re

# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection). Excel reads the full-width
# forms as the signs themselves.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


# A telephone number: a sign, then digits and what stands between them. Excel would at most add them up.
TELEPHONE = re.compile(r"\+[0-9][0-9 ()/.-]*")


def escape_formula(text: str | None) -> str:
    """Return `text` for a cell: behind an apostrophe where a spreadsheet would read a formula; empty for None.

    >>> escape_formula("=1+1"), escape_formula("Age"), escape_formula(None), escape_formula("+39 02 1234")
    ("'=1+1", 'Age', '', '+39 02 1234')
    """
    if text is None:
        return ""
    formula = text.lstrip(" ").startswith(FORMULA) and not TELEPHONE.fullmatch(text)
    return f"'{text}" if formula else text

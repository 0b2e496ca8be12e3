"""Text that a spreadsheet opens as text: a cell that begins like a formula is neutralised (OWASP, CSV injection)."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def neutral(text: str | None) -> str:
    """`text` for a cell: behind an apostrophe where a spreadsheet would read a formula; empty for None."""
    if text is None:
        return ""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text

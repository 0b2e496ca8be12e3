"""Formal notations in text: TNM categories, residual tumour, percentages and graded terms, by declared grammars.

A text is read only where it is one of these notations as a whole. Prose is never searched for a value, because "no
tumour, <5 % after review 10 %" would be misread. Letters may be of either case; blanks around do not matter.

| notation | examples |
|---|---|
| TNM | ``cT3 N2 M0``, ``ypT1a(m) pN0 (0/12)``, ``ypT0N0``, ``pTis``, ``N2a`` |
| residual tumour | ``R0``, ``R1(is)``, ``RX`` |
| percentage | ``5 %``, ``<5%``, ``5-10 %``, ``5,5 percent``, ``0`` |
| term and grade | ``Grade 3 Diarrhea, CTCAE``, ``Diarrhea grade 3`` |
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

_PREFIX = "[cpyra]*"
_T = f"{_PREFIX}t(?:x|is|0|[1-4](?:mi|[a-d])?[12]?)"
_N = f"{_PREFIX}n(?:x|[0-3](?:mi|[a-c])?[12]?)"
_M = f"{_PREFIX}m(?:x|0|1[a-c]?[12]?)"
# (m) several tumours, (sn) sentinel node, (0/12) nodes with tumour of nodes examined: UICC, general rules 4 and 5
_DETAIL = r"(?:\((?:m|\d+|sn|i[+-]|mol[+-]|is|cy[+]|\d+/\d+)\))?"
_GAP = r"[ ,;]*"
# What a pathologist adds: invasion of lymph vessels, veins and nerves, grading, residual tumour
_MORE = r"(?:(?:l[01x]|v[0-2x]|pn[01x]|g[1-4x]|r[0-2x])" + _GAP + ")*"
_TNM = "^" + "".join(f"(?:{part} ?{_DETAIL}{_GAP})?" for part in (_T, _N, _M)) + _MORE + "$"
_RESIDUAL = r"^r ?(0|1|2|x)(?:\((?:is|cy[+])\))?$"
_NUMBER = r"\d{1,3}(?:[.,]\d+)?"
_UNIT = "(%|percent|prozent|pct)"
_SINGLE = f"^(<=|>=|<|>|≤|≥)? ?({_NUMBER}) ?{_UNIT}?$"
_RANGE = f"^({_NUMBER}) ?{_UNIT}? ?(?:-|–|to) ?({_NUMBER}) ?{_UNIT}?$"


def plain(text: ir.Value) -> ir.StringValue:
    """Return a text in lower case, with single blanks and none around it."""
    return text.cast("string").lower().re_replace(r"\s+", " ").strip()


def category(text: ir.Value, letter: str) -> ir.StringValue:
    """Return the category of `letter` (T or N) in a TNM notation, such as T1a or N2; null where there is none.

    ``T2a2`` is T2a, and N2a, N2b, N1mi are N2 and N1, as the concept maps of the coded categories have it.
    """
    written = plain(text)
    kept = "(x|is|0|[1-4](?:mi|[a-d])?)" if letter == "T" else "(x|[0-3])"
    found = written.re_extract(f"{letter.lower()}{kept}", 1).re_replace("^x$", "X")
    return _where(written.re_search(_TNM) & (found != ""), letter + found)


def prefix(text: ir.Value, letter: str) -> ir.StringValue:
    """Return the prefix of the category of `letter` in a TNM notation (c, p, yp, …), empty where it has none.

    A prefix at the beginning counts for what follows: the N of ``ypT0N0`` is ypN0.
    """
    written = plain(text)
    own = written.re_extract(f"({_PREFIX}){letter.lower()}[x0-4i]", 1)
    return ibis.coalesce(own.nullif(""), written.re_extract(f"^({_PREFIX})[tnm]", 1), "")


def residual(text: ir.Value) -> ir.StringValue:
    """Return R0, R1, R2 or RX where a text is this notation."""
    found = plain(text).re_extract(_RESIDUAL, 1)
    return _where(found != "", "R" + found.upper())


def percentage(text: ir.Value) -> ir.StructValue:
    """Return a percentage as the fields comparator, low, high and unit: `low` is null but in a range.

    A unit that is not written is null: `0.05` may be a fraction.
    """
    written = plain(text)
    single, both = written.re_search(_SINGLE), written.re_search(_RANGE)
    comparator = written.re_extract(_SINGLE, 1).re_replace("≤", "<=").re_replace("≥", ">=")
    high = both.ifelse(written.re_extract(_RANGE, 3), written.re_extract(_SINGLE, 2))
    units = written.re_extract(_RANGE, 2) + written.re_extract(_RANGE, 4) + written.re_extract(_SINGLE, 3)
    return ibis.struct(
        {
            "comparator": _where(single & (comparator != ""), comparator),
            "low": _number(_where(both, written.re_extract(_RANGE, 1))),
            "high": _number(_where(single | both, high)),
            "unit": _where(units != "", ibis.literal("%")),
        }
    )


def graded_term(text: ir.Value) -> tuple[ir.StringValue, ir.StringValue]:
    """Return grade and term of a text that names both, such as ``Grade 3 Diarrhea, CTCAE`` or ``Diarrhea grade 3``.

    The first is how the NCI Thesaurus names its pre-coordinated terms of CTCAE. Null where it is not such a text.
    """
    written = plain(text)
    before, after = r"^grade ([1-5]) ([^0-9]+?)(?:, ctcae.*)?$", r"^([^0-9]+?)[ ,(]+(?:ctcae )?grade ([1-5])\)?$"
    first, last = written.re_search(before), written.re_search(after)
    number = first.ifelse(written.re_extract(before, 1), written.re_extract(after, 2))
    term = first.ifelse(written.re_extract(before, 2), written.re_extract(after, 1))
    return _where(first | last, number), _where(first | last, term)


def _where(condition: ir.BooleanValue, value: ir.Value) -> ir.Value:
    return condition.fill_null(False).ifelse(value, ibis.null("string"))


def _number(text: ir.Value) -> ir.FloatingValue:
    return text.re_replace(",", ".").try_cast("float64")

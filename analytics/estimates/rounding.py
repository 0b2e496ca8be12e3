"""Rounding once, half up, from the exact value (docs/endpoint-rules.md 13)."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction


def exact_percent(x: int, n: int) -> Fraction:
    """100 x / n as an exact fraction; `n` must be positive."""
    return Fraction(100 * x, n)


def round_half_up(value: float | Fraction | Decimal, digits: int = 0) -> Decimal:
    """`value` to `digits` decimals, halves away from zero: 45.4545… -> 45, 12.5 -> 13, -0.5 -> -1.

    A `Fraction` is rounded exactly, a float from its exact binary value. The result has `digits` decimals
    when printed. Raises `ValueError` for NaN and infinities, which are never results.
    """
    exact = _finite(value)
    scaled = abs(exact) * 10**digits
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    with localcontext(prec=max(28, len(str(whole)) + abs(digits) + 2), rounding=ROUND_HALF_UP):
        return (Decimal(whole if exact >= 0 else -whole).scaleb(-digits)).quantize(Decimal(1).scaleb(-digits))


def _finite(value: float | Fraction | Decimal) -> Fraction:
    try:
        return Fraction(value)
    except OverflowError as error:
        raise ValueError("an infinite value cannot be rounded; say 'not reached' instead") from error

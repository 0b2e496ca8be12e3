"""Round once, half up, from the exact value (docs/endpoint-rules.md 13)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction


def exact_percent(x: int, n: int) -> Fraction:
    """Return 100 x / n as an exact fraction; `n` must be positive."""
    return Fraction(100 * x, n)


def round_half_up(value: float | Fraction | Decimal, digits: int = 0) -> Decimal:
    """Return `value` to `digits` decimals, halves away from zero; the result prints with `digits` decimals.

    A `Fraction` is rounded exactly, a float from its exact binary value. Raises `ValueError` for NaN and
    infinities, which are never results.

    >>> print(round_half_up(exact_percent(15, 33)), round_half_up(exact_percent(1, 8)), round_half_up(-0.5))
    45 13 -1
    >>> print(round_half_up(exact_percent(15, 33), digits=2))
    45.45
    """
    try:
        exact = Fraction(value)
    except OverflowError as error:
        raise ValueError("an infinite value cannot be rounded; say 'not reached' instead") from error
    scaled = abs(exact) * 10**digits
    # Whole numbers alone: neither a division of floats nor the precision of Decimal decides about a half.
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    # From text, which is exact whatever the precision of the Decimal context.
    return Decimal(f"{whole if exact >= 0 else -whole}E{-digits}")

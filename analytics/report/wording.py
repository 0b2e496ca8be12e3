"""Write numbers and states as a reader sees them: rounded once, half up, from the exact value.

"suppressed", "not evaluable" and "not reached" are words of their own. Nothing here returns 0, NaN or an
empty text for a value that is not there; a value that ought to be there and is not is a `ValueError`.
"""

from __future__ import annotations

import unicodedata
from fractions import Fraction
from typing import TypeVar

from analytics.estimates.design import design_test
from analytics.estimates.model import Interval, Proportion, Quantiles, Survival
from analytics.estimates.rounding import exact_percent, round_half_up

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
WORDS = {"suppressed": "suppressed", "not_evaluable": "not evaluable", "not_reached": "not reached"}
# Ages are whole numbers, and "62.0 years" would claim more than the records say.
WHOLE_UNITS = ("years",)

T = TypeVar("T")


def clean(text: str) -> str:
    """Return `text` with control, bidirectional and surrogate characters replaced: none reaches a page."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in text)


def exact(value: float) -> Fraction:
    """Return the shortest decimal that names the float `value`, as a fraction: 30.49 is 3049/100."""
    # The float 0.285 lies below 0.285, and rounding it in binary would print 28 % where the decimal says 29 %.
    return Fraction(repr(float(value)))


def whole_percent(value: Fraction) -> str:
    """Return a share given in percent, as text: 500/11 is ``45 %``."""
    return f"{round_half_up(value)}{SPACE}%"


def share(x: int, n: int) -> str:
    """Return `x` of `n` as a percentage, rounded once from the exact fraction: 15 of 33 is ``45 %``."""
    return whole_percent(exact_percent(x, n))


def fraction_percent(s: float) -> str:
    """Return a survival probability in [0, 1] as a percentage."""
    return whole_percent(exact(s) * 100)


def level(ci: Interval) -> str:
    """Return ``90 % CI`` for a level of 0.9."""
    return f"{round_half_up(exact(ci.level) * 100, 1).normalize():f}{SPACE}%{SPACE}CI"


def percent_interval(ci: Interval, scale: int = 1) -> str:
    """Return ``30–61 %``; limits in percent times 1/`scale`. A limit that is not there is a word."""
    # The sign for a range needs two numbers; a word and a number are joined by "to".
    low, high = (None if v is None else str(round_half_up(exact(v) * scale)) for v in (ci.low, ci.high))
    if low is None or high is None:
        return f"{low or WORDS['not_evaluable']} to {high or WORDS['not_evaluable']}"
    return f"{low}{DASH}{high}{SPACE}%"


def interval_and_test(estimate: Proportion) -> str:
    """Return ``30–61 % (90 % CI)`` of a proportion, with the test against its design where it has one."""
    ci = estimate.ci
    parts = [f"{percent_interval(ci)} ({level(ci)})"] if ci is not None else []
    if (test := design_test(estimate)) is not None:
        null = f"{round_half_up(exact(test.null_rate) * 100, 1).normalize():f}{SPACE}%"
        decision = "rejected" if test.rejected else "not rejected"
        parts.append(f"null rate of {null} {decision}, one-sided {p_value(test.p)}")
    return "; ".join(parts)


def p_value(p: float) -> str:
    """Return ``p = 0.012`` with three decimals; ``p < 0.001`` below."""
    return f"p{SPACE}<{SPACE}0.001" if p < 0.001 else f"p{SPACE}={SPACE}{round_half_up(exact(p), 3)}"


def quantity(value: float, unit: str) -> str:
    """Return a median or quartile without its unit: one decimal; whole years without ``.0``."""
    rounded = round_half_up(exact(value), 1)
    return str(int(rounded)) if unit in WHOLE_UNITS and rounded == int(rounded) else str(rounded)


def quartiles(estimate: Quantiles) -> str:
    """Return ``62 (49–74) years``, as far as they are reached and shown."""
    if estimate.quartile_status == "suppressed":
        return f"{median(estimate)} {estimate.unit} ({spread(estimate)})"
    return f"{median(estimate)} ({spread(estimate)}) {estimate.unit}"


def spread(estimate: Quantiles) -> str:
    """Return ``49–74``; a quartile that is not reached is said in words."""
    if estimate.quartile_status == "suppressed":
        return "quartiles suppressed"
    return _range(estimate.q1, estimate.q3, estimate.unit)


def _range(low: float | None, high: float | None, unit: str) -> str:
    joint = DASH if low is not None and high is not None else " to "
    return joint.join(WORDS["not_reached"] if v is None else quantity(v, unit) for v in (low, high))


def median(estimate: Quantiles | Survival) -> str:
    """Return the median without its unit, or the word of its status."""
    if estimate.median_status != "ok":
        return WORDS[estimate.median_status]
    unit = estimate.unit if isinstance(estimate, Quantiles) else "months"
    return quantity(present(estimate.median, estimate.id), unit)


def median_interval(ci: Interval) -> str:
    """Return the limits of a median in months; a limit that the curve does not reach is said in words."""
    return "limits not reached" if ci.low is None and ci.high is None else _range(ci.low, ci.high, "months")


def counts(estimate: Proportion) -> tuple[int, int]:
    """Return `x` and `n` of a proportion whose status is ok. Raises `ValueError` where one is missing or n is 0."""
    x, n = present(estimate.x, estimate.id), present(estimate.n, estimate.id)
    if n == 0:
        raise ValueError(f"estimate {estimate.id!r} has status ok and an empty denominator: mark it not_evaluable")
    return x, n


def present(value: T | None, estimate: str) -> T:
    """Return `value`, which an estimate of status ok must have. Raises `ValueError` naming the estimate."""
    if value is None:
        raise ValueError(f"estimate {estimate!r} has status ok but lacks a value: give the status that fits")
    return value

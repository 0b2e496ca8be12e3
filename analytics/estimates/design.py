"""Test a rate against the null rate of a single-arm phase II design, exactly and one-sided.

One stage: p = P(X >= x) for X binomial with n patients and the null rate (A'Hern 2001, Stat Med 20:859). Two stages
(Simon 1989, Control Clin Trials 10:1): a trial with few responses stops early, so only ways that go on to the second
stage count (Koyama and Chen 2008, Stat Med 27:3145): p = sum over the responses x1 of the first stage that suffice of
P(X1 = x1) P(X2 >= x - x1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analytics.estimates.model import Proportion
from mappers.study import Design

ONE_STAGE = "exact binomial, one-sided (A'Hern 2001)"
TWO_STAGES = "exact, one-sided, two stages (Simon 1989; Koyama and Chen 2008)"


@dataclass(frozen=True)
class DesignTest:
    """The test of one figure: `p`, and whether the null rate is `rejected`.

    `planned` says whether that was decided by the planned number of responses; it is decided by `p` and alpha where the
    trial has another number of patients than planned, or no plan.
    """

    null_rate: float
    alpha: float
    method: str
    p: float
    rejected: bool
    planned: bool


def design_test(estimate: Proportion) -> DesignTest | None:
    """Return the test of an estimate; None where it has no design or no value (suppressed, not evaluable).

    >>> from analytics.estimates.model import Proportion
    >>> plan = Design(null_rate=0.2)
    >>> found = design_test(Proportion("mpr", "MPR", "enrolled", "mpr", 15, 33, 45.45, None, design=plan))
    >>> f"{found.p:.6f}", found.rejected
    ('0.000839', True)
    """
    # From x and n alone, so that it discloses no more than they do.
    design, x, n = estimate.design, estimate.x, estimate.n
    if design is None or x is None or not n or estimate.status != "ok":
        return None
    p, method = p_value(design, x, n)
    planned = n == design.patients and design.responses is not None
    rejected = x >= design.responses if planned and design.responses is not None else p <= design.alpha
    return DesignTest(design.null_rate, design.alpha, method, p, rejected, planned)


def p_value(design: Design, x: int, n: int) -> tuple[float, str]:
    """Return the one-sided p of `x` responses of `n` patients, and the name of the method."""
    # Here: its import takes a second, and every command imports this module for the wording of its messages.
    from scipy import stats

    first, enough = design.first_patients, design.first_responses
    # A trial that ended with its first stage had one stage.
    if first is None or enough is None or n <= first:
        return float(stats.binom.sf(x - 1, n, design.null_rate)), ONE_STAGE
    # By the responses of the first stage: only these went on to the second.
    went_on = np.arange(enough, first + 1)
    second = stats.binom.sf(x - went_on - 1, n - first, design.null_rate)
    return float((stats.binom.pmf(went_on, first, design.null_rate) * second).sum()), TWO_STAGES

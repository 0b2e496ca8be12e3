"""Names that are nearly right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that asks for the known name which is nearest; "" where none is near.

    >>> did_you_mean("famly", ["given", "family"])
    "; did you mean 'family'?"
    >>> did_you_mean("patient", ["Patient"])
    "; did you mean 'Patient'?"
    >>> did_you_mean("x", ["given", "family"])
    ''
    """
    by_lower = {each.lower(): each for each in known}
    nearest = get_close_matches(name.lower(), by_lower, 1, cutoff=0.7)
    return f"; did you mean '{by_lower[nearest[0]]}'?" if nearest else ""

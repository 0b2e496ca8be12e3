"""A reader of all releases of a growing cohort finds none of the small counts; of unprotected ones he does.

`python -m benchmarks.disclosure attack --chains N` looks at more chains, and longer ones.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.chains import attack, chain


@pytest.mark.parametrize(("seed", "k"), [(1, 3), (2, 5)])
def test_fault_150_no_small_count_follows_from_all_releases_together(seed: int, k: int) -> None:
    draws = np.random.default_rng(seed)
    given = chain(draws, nights=5, k=k, least_share=0)
    found = attack(given, draws, most=12)
    assert len(given.releases) > 1
    assert found.protected > 50
    assert (found.found_out, found.narrowed, found.undecided, found.named) == (0, 0, 0, ())


def test_the_same_reader_finds_small_counts_in_releases_that_do_not_know_of_each_other() -> None:
    draws = np.random.default_rng(1)
    given = chain(draws, nights=4, k=3, least_share=0, alone=True)
    assert len(given.releases) > 1
    assert attack(given, draws, most=20).found_out > 0

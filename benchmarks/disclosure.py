"""Measure what disclosure control shows, how long it takes, and whether an attacker finds a protected count.

    python -m benchmarks.disclosure utility 33 200 2000      # the table of docs/what-leaves-the-hospital.md
    python -m benchmarks.disclosure attack --seconds 300     # random cohorts, released and attacked

The cohorts are those of `tests/resampled.py`; the attacker is that of the tests, which shares no code with disclosure
control: each released number is an equation over the kinds of patients that the study's definitions allow.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter, process_time

import numpy as np

from analytics.analysis import analyse
from analytics.disclosure.control import release
from mappers.study import load_study
from tests.generative import test_analytics_disclosure_attack as attacker
from tests.resampled import resampled

STUDY = load_study("alneo")
NAMED = {spec.id for spec in STUDY.proportions}
THRESHOLDS = (5, 11)
COHORTS = 3


def utility(sizes: list[int]) -> None:
    """Print the share of the proportions named by the study that is shown, the curves, and the processor time."""
    print("patients  k   named proportions shown, %   curves with steps, of 2   adverse events by grade   seconds")
    for n in sizes:
        results = [analyse(resampled(n, seed), STUDY) for seed in range(COHORTS)]
        for k in THRESHOLDS:
            started = process_time()
            found = [release(each, k) for each in results]
            seconds = (process_time() - started) / len(found)
            shares = [100 * sum(p.status == "ok" for p in r.proportions if p.id in NAMED) / len(NAMED) for r in found]
            curves = [sum(len(s.curve) > 1 for s in r.survival) for r in found]
            events = [sum(p.status == "ok" for p in r.proportions if p.id not in NAMED) for r in found]
            mean = f"{np.mean(shares):.0f} ({min(shares):.0f} to {max(shares):.0f})"
            print(f"{n:8d} {k:3d}   {mean:26s}   {curves!s:22s}   {events!s:20s}   {seconds:.1f}", flush=True)


def attack(seconds: float, seed: int) -> int:
    """Release and attack random cohorts for `seconds`; return how many protected counts were found out."""
    draws = np.random.default_rng(seed)
    releases = protected = found_out = 0
    end = perf_counter() + seconds
    while perf_counter() < end:
        kinds = draws.choice(len(attacker.KINDS), draws.integers(1, 7), replace=False)
        patients = [attacker.KINDS[kind] for kind in kinds for _ in range(draws.integers(1, 16))]
        k = int(draws.choice([3, 5, 8, 11]))
        released = release(analyse(attacker._tables(patients, later=False), STUDY), k)
        equations = attacker._equations(released)
        releases += 1
        for name, count in attacker._protected(patients, k).items():
            protected += 1
            low, high = attacker._range(count, equations, len(patients))
            if low == high:
                found_out += 1
                print(f"found out: {name} is {low}, k = {k}, seed {seed}, release {releases}", flush=True)
    print(f"{releases} releases, {protected} protected counts, {found_out} found out")
    return found_out


def main() -> int:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["utility", "attack"])
    parser.add_argument("sizes", nargs="*", type=int, default=[33, 200, 2000])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=19)
    given = parser.parse_args()
    if given.what == "utility":
        utility(given.sizes)
        return 0
    return attack(given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())

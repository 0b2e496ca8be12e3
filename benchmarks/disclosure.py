"""Measure what disclosure control shows, how long it takes, and whether an attacker finds a protected count.

    python -m benchmarks.disclosure utility 33 200 2000      # the table of docs/what-leaves-the-hospital.md
    python -m benchmarks.disclosure attack --seconds 300     # random cohorts, released and attacked
    python -m benchmarks.disclosure attack --chains 100      # releases that follow each other, attacked together

The cohorts are those of `tests/resampled.py`; the attacker is that of the tests, which shares no code with disclosure
control: each released number is an equation over the kinds of patients that the study's definitions allow. The reader
of chains (`tests/chains.py`) has kept every release of a cohort that grows each night.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter, process_time

import numpy as np

from analytics.analysis import analyse
from analytics.disclosure.control import release
from mappers.study import load_study
from tests.chains import Found, chain
from tests.chains import attack as attack_chain
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


def attack_chains(number: int, nights: int, seconds: float, seed: int) -> int:
    """Release and attack growing cohorts, at most for `seconds`; return how many counts were found out."""
    total, releases, made = Found(), 0, 0
    end = perf_counter() + seconds
    while made < number and perf_counter() < end:
        # Each chain has a seed of its own, so that one of them can be run again.
        draws = np.random.default_rng([seed, made])
        k = int(draws.choice([3, 5, 8, 11]))
        # Half of them publish whatever is left: more releases than a hospital would make, and more to subtract.
        share = float(draws.choice([0.0, 0.75]))
        given = chain(draws, nights, k, share)
        found = attack_chain(given, draws)
        made, releases = made + 1, releases + len(given.releases)
        for name in ("protected", "found_out", "narrowed", "undecided"):
            setattr(total, name, getattr(total, name) + getattr(found, name))
        print(f"chain {made - 1}: k = {k}, {len(given.releases)} releases, {found.protected} small counts", flush=True)
        for each in found.named:
            print(f"found out or narrowed: {each}; k = {k}, seed {seed}, chain {made - 1}", flush=True)
    print(
        f"{made} chains of {nights} nights, {releases} releases, {total.protected} small counts attacked, "
        f"{total.found_out} found out, {total.narrowed} narrowed to fewer than k values, {total.undecided} undecided"
    )
    return total.found_out + total.narrowed


def main() -> int:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["utility", "attack"])
    parser.add_argument("sizes", nargs="*", type=int, default=[33, 200, 2000])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--chains", type=int, default=0, help="so many chains of releases instead of single ones")
    parser.add_argument("--nights", type=int, default=30)
    given = parser.parse_args()
    if given.what == "utility":
        utility(given.sizes)
        return 0
    if given.chains:
        return attack_chains(given.chains, given.nights, given.seconds, given.seed)
    return attack(given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())

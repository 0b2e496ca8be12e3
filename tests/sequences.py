"""Run random sequences of the machine of `tests/generative/test_connectors_machine.py`: `make sequences COUNT=10000`.

`STEPS=12` makes each shorter, up to 12 steps instead of 25, and so half as dear: more servers for fewer nights of each.

The rules and the comparison after each undisturbed sync are those of the test. The lake is in memory and DuckDB is
opened once for each process, because files and connections were four fifths of the time; the test itself runs on the
real lake. A failure ends the search and prints the sequence: put it into the test as one of its own.
"""

from __future__ import annotations

import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import duckdb
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from connectors.lake import reconcile
from tests.generative.test_connectors_machine import Nights
from tests.memory_lake import MemoryLake

ROUND = 50  # sequences in one process before it says how many there were
TABLES = ("events", "known", "complete", "missing")


class OpenedOnce:
    """Stands in for the module duckdb: a connection is one database, whose tables are dropped at its end."""

    Error = duckdb.Error
    DuckDBPyConnection = duckdb.DuckDBPyConnection

    def __init__(self) -> None:
        self.database = duckdb.connect(config={"threads": 1})

    def connect(self, **_: Any) -> OpenedOnce:
        """Return this connection, without tables."""
        self.close()
        return self

    def close(self) -> None:
        """Drop the tables."""
        for table in TABLES:
            self.database.execute(f"DROP TABLE IF EXISTS {table}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class ManyNights(Nights):
    """The machine, with a lake in memory."""

    lake_type = MemoryLake
    sequences = 0
    syncs = 0

    def teardown(self) -> None:
        """Count what was run."""
        type(self).sequences += 1
        type(self).syncs += len(getattr(self, "reports", ()))
        super().teardown()


def run(number: int, steps: int, examples: int = ROUND) -> tuple[int, int]:
    """Run a round with this seed; return how many sequences and finished syncs there were."""
    ManyNights.sequences = ManyNights.syncs = 0
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(ManyNights), settings=wanted)
    return ManyNights.sequences, ManyNights.syncs


def prepare() -> None:
    """Open DuckDB once in this process."""
    reconcile.duckdb = OpenedOnce()  # type: ignore[attr-defined, assignment]


def main(count: int, steps: int, first: int) -> int:
    """Run at least `count` sequences of up to `steps` steps, beginning with this seed.

    Raises what the first failure raises.
    """
    begin, sequences, syncs = time.monotonic(), 0, 0
    with ProcessPoolExecutor(os.cpu_count(), initializer=prepare) as pool:
        for each in as_completed([pool.submit(run, first + number, steps) for number in range(-(-count // ROUND))]):
            done, synced = each.result()
            sequences, syncs = sequences + done, syncs + synced
            print(f"{sequences} sequences, {syncs} syncs, {time.monotonic() - begin:.0f} s, no loss", flush=True)
    return 0


if __name__ == "__main__":
    seed_of_the_first = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32)
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), seed_of_the_first))

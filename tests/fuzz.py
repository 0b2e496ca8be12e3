"""Run the generative tests with random examples until the time is over: `make fuzz SECONDS=300`.

Each round takes one file of tests with a seed of its own. The first failure ends the search and prints the falsifying
example, with the seed that draws it again. Put it into the test as an `@example`, so that `make test` keeps it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
FAILED = 1  # exit code of pytest; 5 means that a file has no generative test


def endless_rounds(files: list[Path], chance: random.Random) -> Iterator[tuple[Path, int]]:
    while True:
        for file in chance.sample(files, len(files)):
            yield file, chance.randrange(2**32)


def main(seconds: float) -> int:
    """Return 0 if nothing was found, and 1 at the first failure."""
    files = [file for file in FOLDER.rglob("test_*.py") if "hypothesis" in file.read_text("utf-8")]
    rounds, lock, stop = endless_rounds(files, random.Random()), threading.Lock(), threading.Event()
    end, done = time.monotonic() + seconds, 0

    def work() -> None:
        nonlocal done
        while not stop.is_set() and time.monotonic() < end:
            with lock:
                file, seed = next(rounds)
            command = [sys.executable, "-m", "pytest", "-qx", "-m", "hypothesis", f"--hypothesis-seed={seed}", file]
            environment = {**os.environ, "PERIOP_HYPOTHESIS": "fuzz"}
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            with lock:
                done += 1
                if run.returncode == FAILED and not stop.is_set():
                    stop.set()
                    print(f"{run.stdout}\nfailed: {file.relative_to(FOLDER.parent)} with --hypothesis-seed={seed}")
                elif run.returncode not in (0, 5):
                    stop.set()
                    print(f"{run.stdout}{run.stderr}\n{file} did not run")

    workers = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{done} rounds over {len(files)} files in {seconds:.0f} s: {'a failure' if stop.is_set() else 'no failure'}")
    return int(stop.is_set())


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))

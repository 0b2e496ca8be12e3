"""Measure `periop pull` against smart-fetch (`crawl`), from the same server, of the same patients.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install smart-fetch==1.0.3
    .venv/bin/python benchmarks/pulling.py --peer /tmp/peer/bin/smart-fetch [--url URL] [--patients 500] [--rounds 3]

Without --url a HAPI server is started and stopped; one that is given must be empty, and keeps the data. Both get a list
of ids, for without one smart-fetch waits for an export of the Patients, and write plain NDJSON. They run alternately,
each as a process from its start to its end, and must write the same resources.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import orjson

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.connecting import about, fill, server  # noqa: E402
from benchmarks.measuring import machine, show  # noqa: E402

TYPES = ("Patient", "Condition", "Procedure", "Observation")  # those of `fill` that smart-fetch knows
TARGET = 5.0


def written(folder: Path) -> dict[str, str]:
    """Return the resources in a folder as canonical JSON, by `Type/id`."""
    found = {}
    for file in folder.glob("[A-Z]*.ndjson"):
        for line in file.read_bytes().splitlines():
            body = orjson.loads(line)
            found[f"{body['resourceType']}/{body['id']}"] = orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()
    return found


def seconds(*command: str) -> float:
    """Return the wall time of a command, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stdout.decode()[-2000:]}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the command smart-fetch")
    parser.add_argument("--url")
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    own: list[float] = []
    peer: list[float] = []
    with tempfile.TemporaryDirectory() as temporary, server(arguments.url, Path(temporary)) as base:
        folder, kinds = Path(temporary), ",".join(TYPES)
        lines = machine(("httpx",))
        fill(base, range(arguments.patients))
        ids = folder / "ids"
        ids.write_text("\n".join(str(about(number)[0]["id"]) for number in range(arguments.patients)))
        periop = str(Path(sys.executable).parent / "periop")
        crawl = (arguments.peer, "crawl", "--fhir-url", base, "--type", kinds, "--no-default-filters")
        for number in range(arguments.rounds):
            ours, theirs = folder / f"own{number}", folder / f"peer{number}"
            peer.append(seconds(*crawl, "--no-compression", "--id-file", str(ids), str(theirs)))
            own.append(seconds(periop, "pull", base, "--type", kinds, "--ids", str(ids), "--out", str(ours)))
            if written(ours) != written(theirs):
                raise SystemExit(f"{len(written(ours))} resources here, {len(written(theirs))} there, or other ones")
            count = len(written(ours))
    ratio = median(peer) / median(own)
    rounds = {name: ", ".join(f"{each:.2f}" for each in runs) for name, runs in (("own", own), ("peer", peer))}
    show(
        [
            *lines,
            ("resources", f"{count:,} of {arguments.patients} patients, the same from both"),
            ("smart-fetch crawl", f"{median(peer):.2f} s (rounds: {rounds['peer']})"),
            ("periop pull", f"{median(own):.2f} s (rounds: {rounds['own']})"),
            ("times as fast", f"{ratio:.1f} (target at least {TARGET:g}: {'met' if ratio >= TARGET else 'MISSED'})"),
        ]
    )


if __name__ == "__main__":
    main()

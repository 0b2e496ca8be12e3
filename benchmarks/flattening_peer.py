"""One measurement of benchmarks/flattening.py: sqlonfhir on a view and the first resources of a file.

Runs in the environment that the benchmark makes for it, so it imports nothing of this repository.

    python flattening_peer.py VIEW.json FILE.ndjson COUNT
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from itertools import islice
from pathlib import Path


def main() -> None:
    """Print the figures of one run as JSON."""
    from sqlonfhir import evaluate  # type: ignore[import-not-found]

    view, file, count = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]), int(sys.argv[3])
    wall, processor = time.perf_counter(), time.process_time()
    with file.open("rb") as lines:
        rows = evaluate([json.loads(line) for line in islice(lines, count)], view)
    figures = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
    values = [[float(value) if name == "dose" else value for name, value in row.items()] for row in rows]
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**figures, "rows": len(rows), "digest": digest, "peak": peak}))


if __name__ == "__main__":
    main()

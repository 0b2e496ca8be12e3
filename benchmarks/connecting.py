"""What the connectors cost on top of the network: a sync against a bare loop of httpx that stores nothing.

    .venv/bin/python benchmarks/connecting.py [--url URL] [--patients 500] [--exported 500] [--rounds 5] [--streams 4]

Without --url a HAPI server is started (fixtures/hapi/start.sh), filled, and stopped at the end; one that is given must
be empty, and keeps the data. The bare loop and periop run alternately, with the same number of streams, after one round
that does not count. The medians count. benchmarks/README.md says what each line means.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import orjson

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import Figures, Stopwatch, likely_share, machine, middle, show, times  # noqa: E402
from connectors.lake.quarantine import Quarantine  # noqa: E402
from connectors.lake.table import Lake  # noqa: E402
from connectors.sources.base import Source  # noqa: E402
from connectors.sources.bulk.job import Polling  # noqa: E402
from connectors.sources.bulk.source import BulkLimits, BulkSource  # noqa: E402
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource  # noqa: E402
from connectors.sync import sync_site  # noqa: E402

SEARCH_TARGET, EXPORT_TARGET, NIGHT_TARGET = 0.8, 0.85, 2.0
TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
CODE = "urn:periop:benchmark|cohort"
PER_PATIENT = 8
PAGE, BATCH = 200, 50
POLL = 0.1
TICK = 0.5  # seconds between two moments at which HAPI moves an export on
JSON = {"Accept": "application/fhir+json", "Accept-Encoding": "gzip", "Cache-Control": "no-cache"}
NDJSON = {"Accept": "application/fhir+ndjson", "Accept-Encoding": "gzip"}
Json = dict[str, Any]


def about(number: int) -> list[Json]:
    """The eight resources of one patient."""
    patient = f"bench-{number:05d}"
    subject = {"reference": f"Patient/{patient}"}
    system, _, code = CODE.partition("|")
    coded = {"coding": [{"system": system, "code": code}], "text": "x" * 200}
    day = f"2024-{number % 12 + 1:02d}-{number % 28 + 1:02d}"

    def resource(kind: str, suffix: str, **members: Any) -> Json:
        return {"resourceType": kind, "id": f"{patient}-{suffix}", "subject": subject, **members}

    quantity = {"value": number, "unit": "mg"}
    observation = {"status": "final", "code": coded, "effectiveDateTime": day, "valueQuantity": quantity}
    return [
        {"resourceType": "Patient", "id": patient, "gender": "female", "birthDate": "1950-02-03"},
        resource("Condition", "c", code=coded, onsetDateTime=day),
        resource("Procedure", "p", status="completed", code=coded, performedDateTime=day),
        resource(
            "MedicationAdministration",
            "m",
            status="completed",
            medicationCodeableConcept=coded,
            effectiveDateTime=day,
        ),
        resource("AdverseEvent", "a", actuality="actual", event=coded, date=day),
        *(resource("Observation", f"o{nth}", **observation) for nth in range(3)),
    ]


def fill(base: str, patients: Iterable[int]) -> None:
    """Put the resources of these patients on the server, fifty patients in one transaction."""
    numbers = iter(patients)
    with httpx.Client(timeout=300, trust_env=False) as client:
        while batch := list(islice(numbers, 50)):
            entries = [
                {"resource": item, "request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}}
                for number in batch
                for item in about(number)
            ]
            body = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
            headers = {"Content-Type": "application/fhir+json"}
            client.post(base, content=body, headers=headers).raise_for_status()


# The bare loops: what httpx needs for the same requests. Nothing is stored, nothing is checked.


def pages(client: httpx.Client, url: str, params: dict[str, str] | None) -> Iterator[Json]:
    """The resources on all pages of a search."""
    while url:
        page = orjson.loads(client.get(url, params=params, headers=JSON).raise_for_status().content)
        yield from (entry["resource"] for entry in page.get("entry", ()))
        url, params = next((link["url"] for link in page["link"] if link["relation"] == "next"), ""), None


def bare_search(base: str, streams: int, folder: Path) -> int:  # noqa: ARG001
    """The cohort, then each type for fifty patients at a time: resources received."""
    with httpx.Client(timeout=300, trust_env=False) as client, ThreadPoolExecutor(streams) as pool:
        common = {"_count": str(PAGE), "_total": "accurate"}
        cohort = pages(client, f"{base}/Condition", {"code": CODE, **common})
        patients = sorted({item["subject"]["reference"].removeprefix("Patient/") for item in cohort})

        def window(kind: str, some: Iterable[str]) -> int:
            name, prefix = ("_id", "") if kind == "Patient" else ("subject", "Patient/")
            return sum(
                1 for _ in pages(client, f"{base}/{kind}", {name: ",".join(prefix + each for each in some), **common})
            )

        batches = [patients[at : at + BATCH] for at in range(0, len(patients), BATCH)]
        return sum(pool.map(window, *zip(*((kind, some) for kind in TYPES for some in batches), strict=True)))


def bare_export(base: str, streams: int, folder: Path) -> int:  # noqa: ARG001
    """Kick-off, poll, download: lines received."""
    with httpx.Client(timeout=300, trust_env=False) as client, ThreadPoolExecutor(streams) as pool:
        params = {"_type": ",".join(TYPES), "_outputFormat": "application/fhir+ndjson"}
        begun = client.get(f"{base}/$export", params=params, headers={**JSON, "Prefer": "respond-async"})
        poll = begun.raise_for_status().headers["Content-Location"]
        while (answer := client.get(poll)).status_code == 202:
            time.sleep(POLL)

        def lines(url: str) -> int:
            with client.stream("GET", url, headers=NDJSON) as response:
                return sum(piece.count(b"\n") for piece in response.iter_bytes())

        count = sum(pool.map(lines, [file["url"] for file in answer.raise_for_status().json()["output"]]))
        client.delete(poll)
        return count


# periop


def stored(source: Source, folder: Path) -> int:
    """One sync into a lake in `folder`: resources received."""
    report = sync_site(source, Lake(folder / "lake"), "bench", Quarantine(folder / "quarantine"))
    if report.status != "ok":
        raise SystemExit(f"the sync is {report.status}: {report.messages}")
    return report.counts.received


def searching(base: str, streams: int) -> SearchSource:
    limits = SearchLimits(page_size=PAGE, batch=BATCH, streams=streams)
    return SearchSource(base, CohortQuery("Condition", (("code", CODE),)), TYPES, limits=limits)


def own_search(base: str, streams: int, folder: Path) -> int:
    return stored(searching(base, streams), folder)


def own_export(base: str, streams: int, folder: Path) -> int:
    limits, polling = BulkLimits(streams=streams), Polling(first=POLL, share=0, at_most=POLL)
    return stored(BulkSource(base, TYPES, "bench", folder / "jobs", limits=limits, polling=polling), folder)


Run = Callable[[str, int, Path], int]


def measured(run: Run, base: str, streams: int, folder: Path, expected: int) -> Figures:
    """One run into a fresh folder, which must receive everything."""
    print(f"  {run.__name__}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    watch = Stopwatch()
    received = run(base, streams, folder)
    figures = watch.figures()
    if received != expected:
        raise SystemExit(f"{run.__name__} received {received} of {expected} resources: is the server empty at first?")
    return figures


def compared(
    own: Run, bare: Run, arguments: argparse.Namespace, base: str, folder: Path, expected: int
) -> list[list[Figures]]:
    """[own, bare], the runs of both in turn, none in step with the ticks of the server: after a pause by chance, the
    same for both in each round."""
    runs: list[list[Figures]] = [[], []]
    chance = random.Random(1)
    for number in range(arguments.rounds + 1):
        pause = chance.uniform(0, TICK)
        for mine, run in zip(runs, (own, bare), strict=True):
            time.sleep(pause)
            figures = measured(run, base, arguments.streams, folder / run.__name__, expected)
            if number:  # the first round warms the server up
                mine.append(figures)
    return runs


def quiet_night(base: str, streams: int, folder: Path) -> Figures:
    """A second sync after which nothing has changed."""
    own_search(base, streams, folder)
    watch = Stopwatch()
    own_search(base, streams, folder)
    return watch.figures()


def lines(name: str, own: list[Figures], bare: list[Figures], count: int, target: float) -> list[tuple[str, str]]:
    """What one comparison says: how many of the resources a second of the bare loop periop gets."""
    share = middle(bare, "seconds") / middle(own, "seconds")
    verdict = "met" if share >= target else "MISSED"
    return [
        (f"{name}, bare httpx", f"{times(bare)}, {count / middle(bare, 'seconds'):,.0f} resources/s"),
        (f"{name}, periop", f"{times(own)}, {count / middle(own, 'seconds'):,.0f} resources/s"),
        (f"{name}, share of the bare rate", f"{share:.3f} (target at least {target:g}: {verdict})"),
        (f"{name}, the share is likely", likely_share(own, bare)),
    ]


@contextmanager
def server(url: str | None, folder: Path) -> Iterator[str]:
    """The base URL of a FHIR server: the given one, or HAPI for as long as this lasts."""
    if url:
        yield url
        return
    settings = {"RUN": str(folder), "PORT": "8099", "TIER": "4", "HEAP": "3g", "OPTS": "-Dfhir.bulk.reuse=false"}
    subprocess.run([ROOT / "fixtures/hapi/start.sh"], env={**os.environ, **settings}, stdout=sys.stderr, check=True)
    try:
        yield "http://127.0.0.1:8099/fhir"
    finally:
        os.kill(int((folder / "hapi.pid").read_text()), signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--exported", type=int, default=500, help="patients on the server when it exports")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=4)
    arguments = parser.parse_args()
    packages, streams = machine(("httpx", "orjson", "deltalake")), arguments.streams
    count, exported = arguments.patients * PER_PATIENT, arguments.exported * PER_PATIENT
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with server(arguments.url, folder) as base:
            fill(base, range(arguments.patients))
            search = compared(own_search, bare_search, arguments, base, folder, count)
            night = [quiet_night(base, streams, folder / f"night{n}") for n in range(arguments.rounds)]
            fill(base, range(arguments.patients, arguments.exported))
            export = compared(own_export, bare_export, arguments, base, folder, exported)
    verdict = "met" if middle(night, "seconds") < NIGHT_TARGET else "MISSED"
    show(
        [
            *packages,
            ("resources searched", f"{count:,} of {arguments.patients} patients, {streams} streams"),
            *lines("search", *search, count, SEARCH_TARGET),
            ("search, a night without changes", f"{times(night)} (target below {NIGHT_TARGET:g} s: {verdict})"),
            ("resources exported", f"{exported:,} of {arguments.exported} patients, {streams} streams"),
            *lines("$export", *export, exported, EXPORT_TARGET),
        ]
    )


if __name__ == "__main__":
    main()

"""A FHIR server on the loopback that makes its pages when they are asked for: the cohort of benchmarks/syncing.py.

    python streaming_server.py PATIENTS

prints its base URL, then answers searches until its standard input ends. Every patient has the same number of
resources of each type; a resource is a text of the benchmark's generator with its ids replaced, always the same. The
server understands `_count`, `_total`, `_summary=count` and `_lastUpdated` (nothing has changed), and has no history.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

PER_PATIENT = {"Patient": 1, "Condition": 9, "MedicationAdministration": 110, "Observation": 130}
RESOURCES = sum(PER_PATIENT.values())  # of a patient
COHORT = "Condition"  # the first one of every patient is found by `code`
COHORT_CODE = "J44.9"  # which it has
ID, PATIENT, WORDS = "@id@", "@patient@", "@words@"
OWN_WORDS = 20  # of every resource, so that the lake does not compress to nothing

Templates = dict[str, list[tuple[str, ...]]]


def templates() -> Templates:
    """For each type, texts of resources cut at their own id, the patient's and where words of their own go."""
    from benchmarks.generate import resource_texts

    found: Templates = {}
    for kind, count in PER_PATIENT.items():
        texts = resource_texts(Random(kind), kind, count, ID, PATIENT)
        texts = [f'{text[:-1]},"implicitRules":"urn:{WORDS}"}}' for text in texts]
        found[kind] = [tuple(text.replace(PATIENT, ID).replace(WORDS, ID).split(ID)) for text in texts]
        assert all(len(parts) == (3 if kind == "Patient" else 4) for parts in found[kind])
    return found


def text_of(texts: Templates, kind: str, patient: int, nth: int) -> str:
    """The resource number `nth` of this type about a patient."""
    name, words = f"P{patient:06d}", own_words(patient * RESOURCES + nth)
    if kind == "Patient":
        head, middle, tail = texts[kind][nth]
        return f"{head}{name}{middle}{words}{tail}"
    head, middle, end, tail = texts[kind][nth]
    return f"{head}{name}-{kind[0]}{nth}{middle}{name}{end}{words}{tail}"


def own_words(number: int) -> str:
    """Words that are those of hardly any other number."""
    from benchmarks.generate import NOISE

    start = number * 7_919 % (len(NOISE) - 7 * OWN_WORDS)
    return NOISE[start : start + 7 * OWN_WORDS]


def everything(texts: Templates, patients: int) -> Iterator[tuple[str, str]]:
    """(type, text) of all resources, one patient after the other."""
    for patient in range(patients):
        for kind, count in PER_PATIENT.items():
            for nth in range(count):
                yield kind, text_of(texts, kind, patient, nth)


class Handler(BaseHTTPRequestHandler):
    """Answers searches."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body waits until the client has acknowledged the head: 0.04 s
    texts: Templates
    patients: int

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        kind = address.path.rpartition("/")[2]
        if kind not in PER_PATIENT:
            self._answer(404, b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}')
            return
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self._answer(200, self._searchset(kind, query).encode())

    def _searchset(self, kind: str, query: dict[str, str]) -> str:
        found = self._found(kind, query)
        size, offset = int(query.get("_count", 200)), int(query.get("_offset", 0))
        total = sum(count for _, count in found)
        if query.get("_summary") == "count":
            return f'{{"resourceType":"Bundle","type":"searchset","total":{total}}}'
        texts = (text_of(self.texts, kind, *each) for each in _slice(found, offset, offset + size))
        entries = ",".join(f'{{"resource":{text},"search":{{"mode":"match"}}}}' for text in texts)
        links = self._next(kind, query, offset + size) if offset + size < total else ""
        return f'{{"resourceType":"Bundle","type":"searchset","total":{total},"link":[{links}],"entry":[{entries}]}}'

    def _found(self, kind: str, query: dict[str, str]) -> list[tuple[int, int]]:
        """(patient, how many of the first resources of the type)."""
        if "_lastUpdated" in query:
            return []
        if "code" in query:
            return [(patient, 1) for patient in range(self.patients)]
        asked = (query.get("_id") or query["subject"]).split(",")
        return [(int(each.rpartition("P")[2]), PER_PATIENT[kind]) for each in asked]

    def _next(self, kind: str, query: dict[str, str], offset: int) -> str:
        url = f"http://{self.headers['Host']}/fhir/{kind}?{urlencode(query | {'_offset': offset})}"
        return f'{{"relation":"next","url":"{url}"}}'

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing is logged."""


def _slice(found: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The (patient, number) from place `start` to `end` of all that was found; all patients have as many."""
    each = found[0][1] if found else 1
    for place in range(start, min(end, each * len(found))):
        nth, number = divmod(place, each)
        yield found[nth][0], number


def main() -> None:
    """Serve until the standard input ends."""
    Handler.texts, Handler.patients = templates(), int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/fhir", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()

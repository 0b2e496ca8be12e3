"""Properties: nothing received is lost, the lake ends at the newest, cutting text loses no byte."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.fhir.bundle import read_bundle
from connectors.fhir.events import SourceEvent
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.http.gunzip import gunzip
from connectors.lake.quarantine import Quarantine
from connectors.lake.reconcile import OUTCOMES, Intake, identity, updated, version
from connectors.lake.table import Cursor, Lake
from connectors.lake.versions import Seen, Versions
from connectors.report import counts_by_type, total
from connectors.sources.folder import split_lines
from connectors.sync import sync_site

TIMES = (None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00.5Z")

# the digest is of the whole resource, so it differs where lastUpdated differs
versions = st.builds(
    lambda kind, id_, number, time, text: Resource(
        kind, id_, number, time, None, f"{text}{TIMES.index(time)}" * 32, "{}"
    ),
    st.sampled_from(["Patient", "Condition"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(TIMES),
    st.sampled_from(["d", "e"]),
)
rejects = st.builds(Rejected, st.sampled_from(Reason), st.just("here"), st.just(b"x"), st.sampled_from(["", "Patient"]))
pulls = st.lists(st.lists(st.one_of(versions, rejects), max_size=12), max_size=4)


def slow_current(pull: list[SourceEvent], current: dict[tuple[str, str], Resource]) -> dict[tuple[str, str], Resource]:
    """The reference: of what is known and what arrived, the last by (time, order of arrival) is current."""
    known = dict(current)
    arrived = [item for item in pull if isinstance(item, Resource)]
    for key in {(item.resource_type, item.id) for item in arrived}:
        mine = [item for item in arrived if (item.resource_type, item.id) == key]
        candidates = ([known[key]] if key in known else []) + mine
        known[key] = max(reversed(candidates), key=lambda item: TIMES.index(item.last_updated))  # the last of equals
    return known


def state(item: Resource) -> tuple[str, str]:
    return item.version_id, item.digest


@given(pulls)
def test_every_pull_is_accounted_for_and_ends_at_the_newest(nights: list[list[SourceEvent]]) -> None:
    current: dict[tuple[str, str], Resource] = {}
    seen: dict[str, Seen] = {}
    for number, pull in enumerate(nights, 1):
        nowhere = Path("no-folder-is-needed-for-so-few")
        known, fresh = Versions(nowhere), Versions(nowhere)
        known.load(seen.items())
        intake, spool = Intake(known, fresh), []
        for item in pull:
            if isinstance(item, Rejected):
                intake.reject(item)
            elif isinstance(item, Resource) and intake.admit(item, len(spool)):
                spool.append(item)
        stored = [item for row, item in enumerate(spool) if row not in intake.dropped]
        counts = total(counts_by_type(intake))  # raises if it does not add up
        assert counts.received == len(pull)
        assert counts.quarantined == sum(isinstance(item, Rejected) for item in pull)
        assert counts.stored == len(stored)

        expected = slow_current(pull, current)
        changed = {key for key, item in expected.items() if key not in current or state(current[key]) != state(item)}
        assert {(item.resource_type, item.id) for item in stored} == changed
        assert len(stored) == len(changed), "more than one version of a resource in one sync"
        assert all(state(item) == state(expected[item.resource_type, item.id]) for item in stored)
        for item in stored:
            key = identity(item.resource_type, item.id)
            seen[key] = Seen(version(item.version_id, item.digest), updated(item.last_updated), number)
            current[item.resource_type, item.id] = item


class Items:
    fingerprint = "items"
    server_time: str | None = None

    def __init__(self, items: list[SourceEvent]) -> None:
        self.items = items
        self.whole = False
        self.state: dict[str, str] = {}

    def pull(self, previous: Cursor | None) -> Iterator[SourceEvent]:
        yield from self.items


@settings(max_examples=15, deadline=None)
@given(pulls)
def test_the_same_pull_again_stores_nothing(nights: list[list[SourceEvent]]) -> None:
    with TemporaryDirectory() as folder:
        lake, quarantine = Lake(Path(folder) / "lake"), Quarantine(Path(folder) / "quarantine")
        for pull in nights:
            first = sync_site(Items(pull), lake, "site", quarantine)
            again = sync_site(Items(pull), lake, "site", quarantine)
            assert (again.stored, again.quarantined, again.sync_number) == (0, first.quarantined, first.sync_number)
            assert sum(getattr(first, outcome) for outcome in OUTCOMES) == first.received == len(pull)
        batches = list(lake.rows("site", ["id", "sync"]))
        rows = [row for batch in batches for row in batch.to_pylist()]
        assert max(Counter((row["resource_type"], row["id"], row["sync"]) for row in rows).values(), default=1) == 1
        assert all(isinstance(batch, pa.RecordBatch) for batch in batches)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


@given(st.binary(max_size=200).map(lambda data: data.replace(b"a", b"\n")), st.lists(st.integers(0, 1000)))
def test_lines_do_not_depend_on_how_the_file_is_cut(data: bytes, places: list[int]) -> None:
    lines = list(split_lines(cut(data, places), 1000))
    assert b"".join(line.content + b"\n" * line.ended for line in lines) == data
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.lists(st.integers(0, 1000)))
def test_gzip_members_in_any_pieces(members: list[bytes], places: list[int]) -> None:
    packed = b"".join(gzip.compress(member) for member in members)
    assert b"".join(gunzip(cut(packed, places))) == b"".join(members)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4), st.sampled_from([None, 2]), st.booleans())
def test_a_poisoned_bundle_is_cut_like_a_good_one(values: list[object], indent: int | None, ascii_only: bool) -> None:
    """The way by brackets (forced by NaN in a last entry) finds the same texts as the parser."""
    entries = [{"fullUrl": f"urn:{n}", "resource": {"id": str(n), "x": value}} for n, value in enumerate(values)]
    document = {"resourceType": "Bundle", "type": "collection", "total": 3, "entry": entries}
    poisoned = document | {"entry": [*entries, {"resource": {"x": float("nan")}}]}
    good = read_bundle(json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    bad = read_bundle(json.dumps(poisoned, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    assert bad.entries[:-1] == good.entries
    assert b"NaN" in bad.entries[-1].resource
    assert (bad.type, bad.total) == ("collection", 3)

"""Properties: nothing received is lost, the lake ends at the newest, splitting text loses no byte."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from connectors.fhir.bundle import read_bundle
from connectors.fhir.events import CompleteFor, Deleted, Exists, SourceEvent
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.http.gunzip import gunzip
from connectors.lake.quarantine import Quarantine
from connectors.lake.reconcile import Reconciler
from connectors.lake.replay import ResourceReplay, Version
from connectors.lake.spool import SPOOL_SCHEMA
from connectors.lake.table import Cursor, Lake
from connectors.report import OUTCOMES, counts_by_type, total
from connectors.sources.folder import split_lines
from connectors.sync import sync_site

TIMES = (None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00.5Z")

# the digest is of the whole resource, so it differs where lastUpdated differs
versions = st.builds(
    lambda kind, id_, number, time, text: Resource(
        kind, id_, number, time, id_, f"{text}{TIMES.index(time)}" * 32, "{}"
    ),
    st.sampled_from(["Patient", "Condition"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(TIMES),
    st.sampled_from(["d", "e"]),
)
rejects = st.builds(Rejected, st.sampled_from(Reason), st.just("here"), st.just(b"x"), st.sampled_from(["", "Patient"]))
pulls = st.lists(st.lists(st.one_of(versions, rejects), max_size=12), max_size=4)


deletions = st.builds(
    Deleted,
    st.sampled_from(["Patient", "Condition"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([None, "9"]),
    st.sampled_from([*TIMES, "yesterday"]),
    st.just("here"),
)
sightings = st.builds(Exists, st.sampled_from(["Patient", "Condition"]), st.sampled_from(["a", "b"]), st.booleans())
syncs = st.tuples(
    st.lists(st.one_of(versions, versions, rejects, deletions, sightings), max_size=12),
    st.lists(st.sampled_from([("Patient", "a"), ("Condition", "a"), ("Condition", "b")]), max_size=2),  # complete for
    st.booleans(),  # of a source that was read whole
    st.sampled_from([(), ("Patient",)]),  # types of which nothing is taken as deleted
)


@dataclass
class Row:
    """A row of the lake; `resource` is None for a tombstone."""

    last_updated: str | None
    sync: int
    version_id: str
    digest: str
    resource: Resource | None


def moment(text: str | None) -> int:
    return TIMES.index(text) if text in TIMES else 0  # what is no instant is before all, as none is


class SlowReconciler:
    """The reference: the same rules one event after the other, with a dictionary for everything."""

    def __init__(self, lake: dict[tuple[str, str], list[Row]]) -> None:
        self.current = {
            key: max(rows, key=lambda row: (moment(row.last_updated), row.sync)) for key, rows in lake.items()
        }
        self.new: dict[tuple[str, str], Resource | Deleted] = {}  # to be stored
        self.times: dict[tuple[str, str], str | None] = {}
        self.seen: set[tuple[str, str]] = set()
        self.missing: set[tuple[str, str]] = set()
        self.counts: Counter[tuple[str, str]] = Counter()

    def take(self, event: SourceEvent) -> None:
        if isinstance(event, Rejected):
            self.counts[event.resource_type, "quarantined"] += 1
        elif isinstance(event, Resource):
            self._resource(event, (event.resource_type, event.id))
        elif isinstance(event, Deleted):
            self._deletion(event, (event.resource_type, event.id))
        elif isinstance(event, Exists):
            key = (event.resource_type, event.id)
            self.seen.add(key)
            row = self.current.get(key)
            if event.readable and key not in self.new and (row is None or row.resource is None):
                self.missing.add(key)

    def _newest(self, key: tuple[str, str]) -> str | None:
        return self.times[key] if key in self.new else self.current[key].last_updated

    def _take_back(self, key: tuple[str, str]) -> None:
        if key in self.new:
            del self.new[key]
            self.counts[key[0], "stored"] -= 1
            self.counts[key[0], "superseded"] += 1

    def _resource(self, item: Resource, key: tuple[str, str]) -> None:
        self.seen.add(key)
        self.missing.discard(key)
        row, new = self.current.get(key), self.new.get(key)
        is_new = isinstance(new, Resource) and (new.version_id, new.digest) == (item.version_id, item.digest)
        is_current = row is not None and (row.version_id, row.digest) == (item.version_id, item.digest)
        if row is None and new is None:
            outcome = "stored"
        elif moment(item.last_updated) < moment(self._newest(key)) or (isinstance(new, Deleted) and is_current):
            outcome = "superseded"
        else:
            outcome = "identical" if is_new or is_current else "stored"
        self.counts[key[0], outcome] += 1
        if outcome != "superseded" and not is_new:
            self._take_back(key)
        if outcome == "stored":
            self.new[key], self.times[key] = item, item.last_updated

    def _deletion(self, item: Deleted, key: tuple[str, str]) -> None:
        row, new = self.current.get(key), self.new.get(key)
        if row is None and new is None:
            return
        if isinstance(new, Deleted) or (new is None and row is not None and row.resource is None):
            outcome = "identical"
        elif item.last_updated is not None and moment(item.last_updated) < moment(self._newest(key)):
            outcome = "superseded"
        else:
            time = item.last_updated or self._newest(key)
            self._take_back(key)
            outcome = "stored" if row is not None and row.resource is not None else "identical"
            if outcome == "stored":
                self.new[key], self.times[key] = item, time
        self.counts[key[0], outcome] += 1

    def removed(self, complete: set[tuple[str, str]], whole: bool, spared: tuple[str, ...]) -> set[tuple[str, str]]:
        return {
            key
            for key, row in self.current.items()
            if row.resource is not None
            and key not in self.seen
            and key not in self.new
            and ((key[0], row.resource.patient) in complete or (whole and key[0] not in spared))
        }


def replace_identity(item: Resource | Deleted | Exists) -> Resource | Deleted | Exists:
    if isinstance(item, Resource):
        return structs.replace(item, resource_type="Patient", id="a")
    return replace(item, resource_type="Patient", id="a")


of_one = st.one_of(versions, versions, deletions, sightings).map(replace_identity)


@settings(max_examples=500)
@given(st.lists(st.one_of(versions, st.none()), max_size=2), st.lists(of_one, max_size=8))
def test_the_events_of_one_resource_have_the_outcomes_of_the_reference(
    stored: list[Resource | None], events: list[Resource | Deleted | Exists]
) -> None:
    """`stored`: the versions in the lake, None for a tombstone."""
    key = ("Patient", "a")
    rows = [
        Row(
            item.last_updated if item else TIMES[1],
            sync,
            item.version_id if item else "1",
            item.digest if item else "",
            item,
        )
        for sync, item in enumerate(stored)
    ]
    slow = SlowReconciler({key: rows} if rows else {})
    known = slow.current.get(key)
    ours = ResourceReplay(Version(known.version_id, known.last_updated, known.digest) if known else None)
    for event in events:
        slow.take(event)
        match event:
            case Resource():
                ours.upsert(Version(event.version_id, event.last_updated, event.digest))
            case Deleted():
                ours.delete(Version(event.version_id, event.last_updated, ""))
            case Exists():
                ours.mark_seen(Version(None, None, ""), readable=event.readable)
    assert {(key[0], outcome): count for outcome, count in ours.outcomes.items() if count} == +slow.counts
    new = slow.new.get(key)
    if ours.pending is None:
        assert new is None
    else:
        assert new is not None
        assert (ours.pending.version_id, ours.pending.last_updated) == (new.version_id, slow.times[key])
        assert ours.pending.digest == (new.digest if isinstance(new, Resource) else "")
    assert ours.content_missing == (key in slow.missing)


@settings(max_examples=50, deadline=None)
@given(st.lists(syncs, max_size=4))
def test_every_sync_does_what_the_rules_say_one_event_after_the_other(
    done: list[tuple[list[SourceEvent], list[tuple[str, str]], bool, tuple[str, ...]]],
) -> None:
    rows: dict[tuple[str, str], list[Row]] = {}
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        for events, complete, whole, spared in done:
            slow = SlowReconciler(rows)
            with Reconciler(lake, "site") as ours:
                for event in events:
                    slow.take(event)
                    take(ours, event)
                for kind, patient in complete:
                    ours.mark_complete(CompleteFor(kind, frozenset({patient})))
                account = ours.decide()
                ours.find_missing(whole, spared)
                stored = [row for batch in ours.batches(remove_missing=True) for row in batch.to_pylist()]

            counts = total(counts_by_type(account.received, account.outcomes))  # raises if it does not add up
            assert +account.outcomes == +slow.counts
            assert counts.quarantined == sum(isinstance(event, Rejected) for event in events)
            assert account.content_missing.total() == len(slow.missing)
            removed = slow.removed(set(complete), whole, spared)
            assert account.removed == Counter(kind for kind, _ in removed)
            assert account.deleted == Counter(key[0] for key, new in slow.new.items() if isinstance(new, Deleted))
            assert {(row["resource_type"], row["id"]): row["deleted"] for row in stored} == {
                **{key: isinstance(new, Deleted) for key, new in slow.new.items()},
                **dict.fromkeys(removed, True),
            }
            assert len(stored) == len(slow.new) + len(removed), "more than one version of a resource in one sync"
            if stored:
                sync = lake.append("site", [pa.RecordBatch.from_pylist(stored, SPOOL_SCHEMA)], Cursor("x", True))
            for row in stored:
                key = row["resource_type"], row["id"]
                new, old = slow.new.get(key), slow.current.get(key)
                if isinstance(new, Resource):
                    assert (row["version_id"], row["digest"]) == (new.version_id, new.digest)
                    version_id, time = new.version_id, new.last_updated
                else:
                    assert old is not None
                    assert old.resource is not None
                    assert row["patient"] == old.resource.patient
                    told = new.version_id if new else None
                    version_id, time = told or old.version_id, slow.times.get(key, old.last_updated)
                assert (row["version_id"], row["last_updated"]) == (version_id, time if time in TIMES else None)
                resource = new if isinstance(new, Resource) else None
                rows.setdefault(key, []).append(Row(time, sync, version_id, row["digest"], resource))


def take(ours: Reconciler, event: SourceEvent) -> None:
    match event:
        case Rejected():
            ours.reject(event)
        case Resource():
            ours.upsert(event)
        case Deleted():
            ours.delete(event)
        case Exists():
            ours.mark_seen(event)


class Items:
    fingerprint = "items"
    server_time: str | None = None

    def __init__(self, items: list[SourceEvent]) -> None:
        self.items = items
        self.whole = False
        self.asked: frozenset[str] | None = None
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
            assert (again.counts.stored, again.counts.quarantined) == (0, first.counts.quarantined)
            assert again.sync_number == first.sync_number
            assert sum(getattr(first.counts, outcome) for outcome in OUTCOMES) == first.counts.received == len(pull)
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

"""Properties of the readers of an export: whatever a server sends is read, or refused in words."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import ProtocolError
from connectors.fhir.instants import earlier
from connectors.http.gunzip import gunzip
from connectors.http.retry import TruncatedError
from connectors.sources.bulk.group import GroupMembershipDigest
from connectors.sources.bulk.job import Polling, progress
from connectors.sources.bulk.manifest import read_manifest

LISTS = ("output", "error", "outcome", "deleted", "link")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "type", "count", "relation"]), inner)
    ),
    max_leaves=8,
)
manifests = st.dictionaries(st.sampled_from(["transactionTime", "request", "requiresAccessToken", *LISTS]), values)
counts = st.none() | st.integers(0, 9)
files = st.lists(st.tuples(st.text(min_size=1, max_size=9), st.sampled_from(["Patient", "Observation"]), counts))


@given(manifests)
def test_any_manifest_is_read_or_refused(found: dict[str, object]) -> None:
    with suppress(ProtocolError):
        manifest = read_manifest(json.dumps(found).encode())
        assert manifest.requires_token is (found.get("requiresAccessToken") is not False)


@given(st.binary(max_size=50))
def test_what_is_no_json_is_fetched_again(body: bytes) -> None:
    with suppress(ProtocolError, TruncatedError):
        read_manifest(body)


@given(files, files, files, st.sampled_from(["error", "outcome"]))
def test_a_good_manifest_is_read_to_the_last_file(
    output: list[tuple[str, str, int | None]],
    deleted: list[tuple[str, str, int | None]],
    outcomes: list[tuple[str, str, int | None]],
    member: str,
) -> None:
    def items(listed: list[tuple[str, str, int | None]]) -> list[dict[str, object]]:
        return [{"url": url, "type": kind} | ({"count": n} if n is not None else {}) for url, kind, n in listed]

    found = {"transactionTime": "2024-01-01T00:00:00Z", "output": items(output), "deleted": items(deleted)}
    manifest = read_manifest(json.dumps(found | {member: items(outcomes)}).encode())
    for read, listed in ((manifest.output, output), (manifest.deleted, deleted), (manifest.outcomes, outcomes)):
        assert [(file.url, file.resource_type, file.count) for file in read] == listed


@given(st.binary(max_size=2000), st.integers(1, 300), st.integers(1, 3), st.integers(0, 5))
def test_gzip_in_any_pieces(content: bytes, size: int, members: int, padding: int) -> None:
    sent = gzip.compress(content) * members + bytes(padding)
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert b"".join(gunzip(pieces)) == content * members


@given(st.binary(max_size=300), st.data())
def test_gzip_that_is_cut_anywhere_is_said(content: bytes, data: st.DataObject) -> None:
    sent = gzip.compress(content)
    cut = data.draw(st.integers(1, len(sent) - 1))
    with pytest.raises(TruncatedError):
        list(gunzip([sent[:cut]]))


def test_gzip_of_nothing_and_of_zeros_only() -> None:
    assert list(gunzip([])) == []
    with pytest.raises(TruncatedError):  # what a power cut leaves of a file
        list(gunzip([bytes(100)]))


@given(st.text(max_size=300))
def test_progress_of_a_server_is_one_short_line_of_harmless_characters(text: str) -> None:
    shown = progress({"x-progress": text})
    assert len(shown) < 120
    assert shown.isascii()
    assert shown.isprintable()
    assert not set("<>&\"'`$\\") & set(shown)


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_polls_come_between_half_a_second_and_a_minute(waited: float, asked: float | None) -> None:
    pause = Polling(at_most=60.0).wait(waited, asked)
    assert 0.5 <= pause <= 60.0
    if asked is not None and asked >= 0.5:  # the server's word is the least wait, up to the bound
        assert pause == min(asked, 60.0)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(0, 86_400))  # noqa: DTZ001
def test_an_overlap_goes_back_by_so_many_seconds(moment: datetime, seconds: int) -> None:
    time = moment.replace(tzinfo=UTC)
    found = earlier(time.isoformat(), float(seconds))
    assert found is not None
    back = (time - datetime.fromisoformat(found)).total_seconds()
    assert seconds <= back < seconds + 0.0011  # milliseconds, cut: never later


@given(st.sets(st.text(min_size=1, max_size=8), max_size=20), st.randoms())
def test_members_are_told_apart_whatever_their_order(ids: set[str], chance: object) -> None:
    def digest(patients: list[str]) -> str:
        members = GroupMembershipDigest()
        for patient in patients:
            members.add(patient)
        return members.digest

    listed = sorted(ids)
    shuffled = listed.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digest(listed) == digest(shuffled)
    assert all(digest(listed) != digest([each for each in listed if each != gone]) for gone in listed)

"""The patients behind each release: what is kept of them, for whom, and what an erased patient leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.disclosure.model import Count
from analytics.disclosure.past import CountedPatients, past_counts
from schedules.errors import ReleasePatientsError
from schedules.release.patients import ReleasePatients

K = 3
COUNTED = CountedPatients(
    ("milan-a", "milan-b", "rome-c"),
    (
        Count("n.enrolled", 0b111),
        Count("response.mpr", 0b011, "n.enrolled", frozenset({"course"})),
        Count("response.pcr", 0b010, "n.enrolled", frozenset({"course"}), published=False),
    ),
)


@pytest.fixture
def files(tmp_path: Path) -> ReleasePatients:
    files = ReleasePatients(tmp_path / "release-patients")
    files.write(1, COUNTED)
    return files


def test_the_patients_behind_a_release_are_read_as_they_were_written(files: ReleasePatients) -> None:
    assert files.read(1, COUNTED.subjects) == COUNTED
    (file,) = files.folder.iterdir()
    assert (oct(file.stat().st_mode & 0o777), oct(files.folder.stat().st_mode & 0o777)) == ("0o600", "0o700")
    # The patients are neither in a message nor in a traceback.
    assert "milan-a" not in repr(files.read(1, COUNTED.subjects))


def test_two_counts_of_one_name_stay_two(files: ReleasePatients) -> None:
    """Two tables of a study may be called alike, in different populations."""
    twice = CountedPatients(COUNTED.subjects, (Count("x.all", 0b011), Count("x.all", 0b100)))
    files.write(2, twice)
    assert files.read(2, COUNTED.subjects) == twice
    assert {count.patients for count in past_counts(COUNTED.subjects, {2: twice}, K)} == {0b011, 0b100}


def test_fault_148_a_lost_or_damaged_file_is_said_with_what_to_do(files: ReleasePatients) -> None:
    with pytest.raises(ReleasePatientsError, match=r"000002\.parquet: is lost.* release 2; restore it"):
        files.read(2, COUNTED.subjects)
    (file,) = files.folder.iterdir()
    content = file.read_bytes()
    for damaged in (content[:-20], content[: len(content) // 2], b"", content.replace(b"milan-a", b"milan-x")):
        file.write_bytes(damaged)
        with pytest.raises(ReleasePatientsError, match="cannot be read"):
            files.read(1, COUNTED.subjects)


def test_fault_148_patients_under_another_key_pass_for_nobody(files: ReleasePatients) -> None:
    assert files.read(1, ("milan-a", "milan-z")) == COUNTED
    with pytest.raises(ReleasePatientsError, match="knows none of the patients of today"):
        files.read(1, ("milan-x", "milan-y"))


def test_fault_149_an_erased_patient_is_taken_out_of_every_release(files: ReleasePatients) -> None:
    files.write(2, COUNTED)
    assert files.forget(lambda pseudonym: pseudonym == "b") == 2
    for release in (1, 2):
        left = files.read(release, COUNTED.subjects)
        assert left.subjects == ("milan-a", "rome-c")
        assert [(count.id, count.patients) for count in left.counts] == [
            ("n.enrolled", 0b11),
            ("response.mpr", 0b01),
            ("response.pcr", 0b00),
        ]
    assert files.forget(lambda pseudonym: pseudonym == "b") == 0
    # A file that nobody can read may still hold the patient.
    file = files.folder / "000002.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    files.forget(lambda _: False)
    assert not file.exists()


def test_patients_are_the_same_by_name_and_not_by_number() -> None:
    # Of today's patients the first is new, and rome-c is gone since.
    found = {count.id: count for count in past_counts(("milan-0", "milan-b", "milan-a"), {1: COUNTED}, K)}
    assert {name: bin(count.patients) for name, count in found.items()} == {
        "n.enrolled in release 1": "0b1110",
        "response.mpr in release 1": "0b110",
        "response.pcr in release 1": "0b10",
    }
    assert found["response.pcr in release 1"].population == "n.enrolled in release 1"
    assert not found["response.pcr in release 1"].published


def test_a_count_of_several_releases_is_one_equation_and_known_if_one_published_it() -> None:
    shown = CountedPatients(
        COUNTED.subjects, tuple(Count(c.id, c.patients, c.population, c.variable_groups) for c in COUNTED.counts)
    )
    found = past_counts(COUNTED.subjects, {1: COUNTED, 2: shown}, K)
    assert [(count.id, count.published) for count in found] == [
        ("n.enrolled in release 1", True),
        ("response.mpr in release 1", True),
        ("response.pcr in release 1", True),
    ]


def test_what_was_not_published_counts_only_where_it_is_protected() -> None:
    counts = (
        Count("n.enrolled", 0b111111111),
        Count("large", 0b111111, "n.enrolled", published=False),  # leaves 3 = k
        Count("small", 0b11, "n.enrolled", published=False),
        Count("all but 2", 0b1111111, "n.enrolled", published=False),
    )
    past = {1: CountedPatients(tuple("abcdefghi"), counts)}
    assert [count.id for count in past_counts((), past, K)] == [
        f"{name} in release 1" for name in ("n.enrolled", "small", "all but 2")
    ]

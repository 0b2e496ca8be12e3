"""Damage on the disk: what is derived is made again, what is not is named with the restore that helps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.errors import LakeError
from connectors.fhir.resource import Resource, read_resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from connectors.lake.verify import DAYS, find_damage, refuse_damage, share
from mappers.build.repair import delete_damaged
from schedules.config.credentials import fingerprint, mark_lake, pseudonym_key
from schedules.errors import ConfigError
from tests.cohorts import KEY
from tests.invented import eligible
from tests.nights import Hospital, mapped, settled, tables


def condition(number: int) -> Resource:
    body = {"resourceType": "Condition", "id": f"c{number}", "subject": {"reference": f"Patient/p{number % 7}"}}
    found = read_resource(json.dumps({**body, "note": [{"text": f"zz {number * 7919:x}"}]}).encode(), "test")
    assert isinstance(found, Resource)
    return found


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.append("milan", [as_batch([condition(number) for number in range(40)])], Cursor("test", complete=True))
    gone = as_batch([condition(1)])
    for name, value in (("deleted", [True]), ("resource", [None]), ("digest", [""])):
        at = gone.schema.get_field_index(name)
        gone = gone.set_column(at, name, pa.array(value, gone.schema.field(name).type))
    lake.append("milan", [gone], Cursor("later", complete=True))
    return lake


def test_fault_85_every_flipped_bit_that_changes_data_is_found(lake: Lake) -> None:
    assert refuse_damage(lake) == 2
    (file, *_) = (file for file in lake.files() if file.rows == 40)
    path = Path(file.path)
    whole, right = path.read_bytes(), pq.read_table(path)
    found = 0
    for place in range(4, len(whole), 13):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if any(find_damage([file])):
            found += 1
            continue
        assert pq.read_table(path).equals(right), f"a bit of byte {place} changed data"
    assert found > len(whole) / 13 / 2  # most bits matter


def test_fault_85_the_damaged_file_is_named_with_the_restore_that_helps(lake: Lake) -> None:
    path = Path(lake.files()[0].path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LakeError) as caught:
        refuse_damage(lake)
    assert str(caught.value).startswith(f"{path}: cannot be read (Condition of site milan): put this file back")


def test_fault_85_every_file_has_its_turn_within_a_month(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for number in range(12):
        lake.append("milan", [as_batch([condition(number)])], Cursor(str(number), complete=True))
    seen = [file.path for day in range(739_000, 739_000 + DAYS) for file in share(lake.files(), day)]
    assert sorted(seen) == sorted(file.path for file in lake.files())


@pytest.fixture(scope="module")
def mapped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("mapped") / "data"
    hospital = Hospital(data)
    resources = eligible("plain").event(10, "2").recist("C159715", 40).resources  # one patient: this maps often
    hospital.night("milan", {(body["resourceType"], body["id"]): body for body in resources})
    mapped(settled(data))
    return data


@pytest.fixture
def data(mapped_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(mapped_once, tmp_path / "data")


def a_view_file(data: Path) -> Path:
    return next(iter(sorted((data / "views" / "condition").rglob("*.parquet"))))


def a_view_log(data: Path) -> Path:
    return max((data / "views" / "condition").rglob("_delta_log/*.json"))


def a_list(data: Path) -> Path:
    return max((data / "views" / ".superseded" / "Condition").rglob("_delta_log/*.json"))


def overwrite(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * 200 + content[204:])  # the first pages


DAMAGE = pytest.mark.parametrize(
    ("which", "damage"),
    [
        (a_view_file, Path.unlink),
        (a_view_file, lambda file: file.write_bytes(b"PAR1")),
        (a_view_file, overwrite),
        (a_view_log, lambda file: file.write_bytes(b"{")),
        (a_list, lambda file: file.write_bytes(b"{")),
    ],
    ids=["no view file", "cut view file", "overwritten view file", "view log", "list of superseded"],
)


@DAMAGE
def test_fault_86_damaged_view_tables_are_found(
    data: Path, which: Callable[[Path], Path], damage: Callable[[Path], object]
) -> None:
    assert delete_damaged(data / "views") == ()
    file = which(data)
    damage(file)
    (name,) = delete_damaged(data / "views")
    assert name in file.parts
    assert not file.exists()
    assert delete_damaged(data / "views") == ()


def test_fault_86_what_is_derived_is_made_again(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = tables(settled(data))
    a_view_log(data).write_bytes(b"{")
    a_view_file(data).write_bytes(b"PAR1")
    overwrite(data / "cohort" / "adae.parquet")
    mapped(settled(data))
    assert tables(settled(data)) == before
    assert "damaged view tables are built again from the lake: condition" in caplog.text
    assert "damaged cohort tables are made again" in caplog.text


def test_fault_86_a_damaged_file_of_the_lake_is_named(data: Path) -> None:
    shutil.rmtree(data / "views" / "condition")
    path = min((data / "lake").glob("site=milan/resource_type=Condition/*.parquet"))
    overwrite(path)
    with pytest.raises(LakeError, match=r"Condition of site milan.*put this file back from the backup"):
        mapped(settled(data))


def test_fault_87_a_lake_that_is_restored_without_its_key_is_refused(tmp_path: Path) -> None:
    settings = settled(tmp_path / "data")
    Lake(settings.lake_dir).append("milan", [as_batch([condition(1)])], Cursor("test", complete=True))
    key = pseudonym_key(settings, {})  # the first map makes it
    mark_lake(settings, key)
    assert (settings.lake_dir / "_pseudonym_key").read_text().strip() == fingerprint(key)
    assert refuse_damage(Lake(settings.lake_dir)) == 1  # readers of the lake pass over the file
    restored = settled(tmp_path / "restored")
    shutil.copytree(settings.lake_dir, restored.lake_dir)
    with pytest.raises(ConfigError, match="missing, although this lake was mapped with it; restore it from a backup"):
        pseudonym_key(restored, {})
    assert not (restored.data_dir / "pseudonym.key").exists()
    assert pseudonym_key(restored, {"PERIOP_PSEUDONYM_KEY": key.hex()}) == key


def test_fault_146_a_lake_that_is_restored_beside_another_key_is_refused(tmp_path: Path) -> None:
    settings = settled(tmp_path / "data")
    Lake(settings.lake_dir).append("milan", [as_batch([condition(1)])], Cursor("test", complete=True))
    mark_lake(settings, bytes.fromhex(KEY))
    said = (
        r"is not the key that this lake was mapped with; restore that key from its backup, or delete .*_pseudonym_key"
    )
    with pytest.raises(ConfigError, match=f"PERIOP_PSEUDONYM_KEY: {said}"):
        pseudonym_key(settings, {"PERIOP_PSEUDONYM_KEY": "f" * 64})
    file = settings.data_dir / "pseudonym.key"
    file.write_text("e" * 64)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=f"pseudonym.key: {said}"):
        pseudonym_key(settings, {})
    file.write_text(KEY.upper())
    assert pseudonym_key(settings, {}) == bytes.fromhex(KEY)
    # Whoever wants new pseudonyms says so.
    (settings.lake_dir / "_pseudonym_key").unlink()
    assert pseudonym_key(settings, {"PERIOP_PSEUDONYM_KEY": "f" * 64}) == b"\xff" * 32

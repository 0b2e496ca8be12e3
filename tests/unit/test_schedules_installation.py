"""The installed program: updates under a running service are noticed, and packages of others in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schedules.errors import ConfigError
from schedules.installation import (
    PACKAGES_FOLDER,
    ROOT_PACKAGES,
    ProgramWatch,
    foreign_owners,
    program_state,
    refuse_foreign_packages,
    site_folder,
)


def distribution(site: Path, name: str, *files: str) -> Path:
    """Leave the record of a distribution with `files`, as pip does."""
    record = site / f"{name}.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("".join(f"{file},sha256=x,1\n" for file in files))
    return record


def test_fault_105_an_update_of_periop_or_of_a_library_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / "mappers" / "dates.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    record = distribution(tmp_path, "numpy-2.4", "numpy/__init__.py")
    before = program_state(tmp_path, tmp_path)
    assert program_state(tmp_path, tmp_path) == before
    os.utime(record, ns=(1, 1))
    library = program_state(tmp_path, tmp_path)
    module.write_text("b = 10\n")
    assert len({before, library, program_state(tmp_path, tmp_path)}) == 3
    distribution(tmp_path, "numpy-2.5", "numpy/__init__.py")
    assert len(program_state(tmp_path, tmp_path)) == 3


def test_fault_105_an_update_that_goes_on_is_waited_for() -> None:
    now = "old"
    watch = ProgramWatch(lambda: now)
    assert not watch.is_settled()
    now = "half"
    assert (watch.is_updated(), watch.is_settled()) == (True, False)
    now = "new"
    assert [watch.is_settled(), watch.is_settled()] == [False, True]


def test_an_update_that_is_taken_back_is_none() -> None:
    now = "old"
    watch = ProgramWatch(lambda: now)
    now = "new"
    watch.is_settled()
    now = "old"
    assert [watch.is_settled(), watch.is_settled(), watch.is_updated()] == [False, False, False]


def test_fault_106_a_package_of_another_distribution_is_named(tmp_path: Path) -> None:
    distribution(tmp_path, "periop_fhir-0.1.0", "schedules/__init__.py", "mappers/__init__.py")
    distribution(tmp_path, "innocent-1", "my/schedules/__init__.py", "schedules_of_mine/__init__.py", "xmappers.py")
    refuse_foreign_packages(tmp_path)
    distribution(tmp_path, "schedules-2.0", "schedules/__init__.py")
    distribution(tmp_path, "maps-1", "maps.py", "mappers.py")
    assert set(foreign_owners(tmp_path)) == {("schedules", "schedules-2.0"), ("mappers", "maps-1")}
    with pytest.raises(ConfigError, match=r"mappers \(maps-1\), schedules \(schedules-2.0\); install periop in an env"):
        refuse_foreign_packages(tmp_path)


def test_fault_106_packages_that_are_found_elsewhere_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connectors: Python finds .* in its place; .* unset PYTHONPATH"):
        refuse_foreign_packages(None, tmp_path)


def test_the_installation_of_the_tests_is_in_order() -> None:
    refuse_foreign_packages(site_folder())
    assert [name for name in ROOT_PACKAGES if not (PACKAGES_FOLDER / name / "__init__.py").is_file()] == []

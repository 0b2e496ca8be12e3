"""Faults of a sync as a whole: what comes twice, disagrees, is poisoned, deleted or hostile, and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Counts, SyncReport
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from mappers.build.views import CompiledView, refresh_views
from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition
from schedules.config.site_settings import FolderSite
from tests.cohorts import ALNEO, TABLES, run
from tests.fhir_server import BASE, Features, ModelServer

ROOT = Path(__file__).parents[2]
posix_only = pytest.mark.skipif(os.name != "posix", reason="limits of a process are those of POSIX")


class Site:
    """One patient of the cohort on a model server, and the lake."""

    def __init__(self, folder: Path, **features: Any) -> None:
        self.server = ModelServer(Features(**features))
        self.server.put("Condition", "c", code={"text": "lung"}, subject={"reference": "Patient/p"})
        self.lake, self.quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")

    def observe(self, id_: str, **elements: Any) -> None:
        self.server.put("Observation", id_, subject={"reference": "Patient/p"}, **elements)

    def sync(self) -> SyncReport:
        cohort = CohortQuery("Condition", (("code", "lung"),))
        limits = SearchLimits(streams=1)
        source = SearchSource(BASE, cohort, ("Condition", "Observation"), limits=limits, http_transport=self.server)
        return sync_site(source, self.lake, "site", self.quarantine)

    def rows(self) -> list[tuple[str, str, int]]:
        found = [row for each in self.lake.rows("site", ["id", "version_id", "sync"]) for row in each.to_pylist()]
        return sorted((row["id"], row["version_id"], row["sync"]) for row in found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_fault_8_a_page_and_a_resource_that_come_twice_are_stored_once(tmp_path: Path) -> None:
    site = Site(tmp_path, page=1)
    for n in range(3):
        site.observe(f"o{n}")
    site.server.expired = 1  # the window begins again, so its first page comes twice
    assert site.sync().by_type["Observation"] == Counts(received=4, stored=3, identical=1)
    assert site.rows() == [("c", "1", 1), ("o0", "1", 1), ("o1", "1", 1), ("o2", "1", 1)]


def test_fault_17_a_resource_that_is_updated_during_paging_is_stored_in_its_newest_version(tmp_path: Path) -> None:
    site = Site(tmp_path, page=1)
    for n in range(3):
        site.observe(f"o{n}")
    site.server.expired = 1
    # the 3rd answer holds o0, the 4th is the next link that has expired, then the window begins again
    site.server.during[4] = lambda: site.observe("o0", valueInteger=1)
    assert site.sync().by_type["Observation"] == Counts(received=4, stored=3, superseded=1)
    assert ("o0", "2", 1) in site.rows()


def test_fault_17_without_a_version_the_content_tells_them_apart(tmp_path: Path) -> None:
    site = Site(tmp_path, dates=False)
    site.observe("o", valueInteger=1)
    site.sync()
    site.observe("o", valueInteger=2)
    assert (site.sync().counts.stored, site.sync().counts.stored) == (1, 0)
    assert all(version.startswith("sha256-") for _, version, _ in site.rows())


def test_fault_17_of_a_version_and_a_time_that_disagree_the_time_counts(site: Site) -> None:
    site.observe("o", valueInteger=1)
    site.observe("o", valueInteger=2)
    old, new = site.server.versions["Observation", "o"]
    old.number, new.number = 9, 3
    site.sync()
    assert ("o", "3", 1) in site.rows()


def test_fault_20_an_unknown_element_is_kept(site: Site) -> None:
    site.observe("o", inventedByTheServer={"a": [1.10]})
    assert site.sync().counts.stored == 2
    (text,) = [row["resource"] for each in site.lake.rows("site", ["id", "resource"]) for row in each.to_pylist()][1:]
    assert '"inventedByTheServer": {"a": [1.1]}' in text


def test_fault_20_a_modifier_extension_is_kept_told_and_not_used(site: Site, tmp_path: Path) -> None:
    view = ViewDefinition.load(
        {
            "resourceType": "ViewDefinition",
            "name": "observation",
            "status": "active",
            "resource": "Observation",
            "select": [{"column": [{"name": "value", "path": "value.ofType(integer)", "type": "integer"}]}],
        }
    )
    site.observe("plain", valueInteger=1)
    site.observe("negated", valueInteger=2)
    site.sync()

    def seen() -> list[int]:
        with DuckDBEngine() as engine:
            compiled = CompiledView.of(engine, "observation", view)
            refresh_views(tmp_path / "views", site.lake.snapshot(), {"observation": compiled}, engine).register(engine)
            return sorted(engine.frame(compiled.current(compiled.all_rows))["value"])

    assert seen() == [1, 2]
    extension = {"url": "http://example.org/not", "valueBoolean": True}
    site.observe("negated", valueInteger=2, component=[{"modifierExtension": [extension]}])
    report = site.sync()
    assert (report.status, report.modified) == ("ok", {"Observation": 1})
    assert report.notes[-1].startswith("1 Observation with a modifierExtension")
    assert ("negated", "2", 2) in site.rows()
    assert seen() == [1]  # not this version, and not the one before it either


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\0b", "CON", "x" * 300, "..", "a/b"])
def test_fault_30_an_id_or_a_type_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path / "data")
    site.observe("o")
    body = site.server.versions["Observation", "o"][-1].body
    assert body is not None
    body["id"] = name
    report = site.sync()
    accepted = name in {"CON", ".."}  # FHIR ids, and a device or a folder only where they become a file
    assert (report.counts.stored, report.counts.quarantined) == ((2, 0) if accepted else (1, 1))
    assert report.reasons == ({} if accepted else {"invalid-id": 1})
    inside = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert inside == {"data"}
    assert not any(path.name == name for path in tmp_path.rglob("*"))


def test_fault_30_a_type_that_is_no_type_is_set_aside(site: Site) -> None:
    site.observe("o")
    body = site.server.versions["Observation", "o"][-1].body
    assert body is not None
    body["resourceType"] = "../Observation"
    report = site.sync()
    assert report.reasons == {"unknown-resource-type": 1}
    assert {file.resource_type for file in site.lake.files()} == {"Condition"}


def test_fault_16_endpoints_follow_deletions(tmp_path: Path) -> None:
    """The cohort after deletions is that of a hospital that never had those resources."""
    folder = tmp_path / "export"
    shutil.copytree(ALNEO, folder)
    site = FolderSite(name="milan", kind="folder", path=folder, complete=True, max_loss=0.6)
    first = run(tmp_path / "data", site)
    before = {name: first.table(name) for name in TABLES}
    gone = 0
    for name, every in (("Observation", 5), ("AdverseEvent", 2), ("Procedure", 9)):
        lines = (folder / f"{name}.ndjson").read_text().splitlines(keepends=True)
        (folder / f"{name}.ndjson").write_text("".join(line for n, line in enumerate(lines) if n % every))
        gone += sum(n % every == 0 for n in range(len(lines)))
    after, fresh = run(tmp_path / "data", site), run(tmp_path / "fresh", site)
    assert sum(after.sync.removed.values()) == gone
    assert after.sync.counts.stored == 0
    assert [not before[name].equals(after.table(name)) for name in ("adsl", "adae")] == [True, True]
    for name in TABLES:
        pd.testing.assert_frame_equal(after.table(name), fresh.table(name))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))  # a write beyond it fails: EFBIG
from schedules.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@posix_only
@pytest.mark.parametrize("size", [20_000, 200_000])
def test_fault_24_a_full_disk_is_a_clean_stop(tmp_path: Path, size: int) -> None:
    """No file can grow beyond `size` bytes: the ledger, or the spool."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "Patient.ndjson").write_text(json.dumps({"resourceType": "Patient", "id": "first"}) + "\n")
    config = tmp_path / "periop.toml"
    config.write_text('[[sites]]\nname = "milan"\nkind = "folder"\npath = "export"\n')
    sync = [sys.executable, "-c", LIMITED]
    arguments = ["--config", str(config), "sync"]
    first = subprocess.run([*sync, str(1 << 30), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    chance = [{"resourceType": "Patient", "id": f"p{n}", "text": {"div": os.urandom(400).hex()}} for n in range(1_000)]
    (folder / "more.ndjson").write_text("".join(json.dumps(each) + "\n" for each in chance))
    full = subprocess.run([*sync, str(size), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert "disk" in full.stderr
    lake = Lake(tmp_path / "periop-data" / "lake")
    assert (lake.sync_number(), sum(file.rows for file in lake.files())) == (1, 1)
    again = subprocess.run([*sync, str(1 << 30), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert sum(file.rows for file in lake.files()) == 1_001

"""A small lake that changes from night to night, for tests that hold an incremental map equal to a full one."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.fhir.resource import Resource, read_resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake
from mappers.build.mapping import MapReport
from mappers.study import Study, load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from schedules.run.pipeline import Pipeline
from tests.cohorts import KEY
from tests.compiled import compiled_once
from tests.invented import Invented, eligible, operated

FIRST = datetime(2024, 6, 1, tzinfo=UTC)
SITES = ("milan", "rome")
ABSENT: Any = None  # in place of a resource: it is deleted
BOTH_CUTOFFS = load_study("alneo")
# A map takes nearly twice as long with a second data cutoff, which few tests are about.
ALNEO = BOTH_CUTOFFS.model_copy(update={"cuts": ()})


def charts() -> list[Invented]:
    """Patients with something in every cohort table, and some in none."""
    rich = operated("rich").viable(5).yp().recist("C159547", 30).status("268910001", 200).dose(100, 127).event(20, "3")
    unowned = Invented("nobody").observation({"text": "of nobody"}, 3)
    del unowned.resources[0]["subject"]
    return [
        rich,
        eligible("plain").event(10, "2").recist("C159715", 40),
        Invented("other").person(birthDate="1950").condition("44054006").dose(5),
        operated("odd").viable(60, central=True).event(80, "3").staged("IIIB", edition="897275008"),
        unowned,
    ]


@dataclass
class Hospital:
    """The lake in `data`, and what its sites hold: the JSON of resources by (site, type, id)."""

    data: Path
    held: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    written: int = 0

    @property
    def lake(self) -> Lake:
        return Lake(self.data / "lake")

    def night(self, site: str, changes: dict[tuple[str, str], dict[str, Any] | None], late: bool = False) -> None:
        """One sync of a site: new versions of resources, or deletions. `late`: with a time before all others."""
        rows = [self._row(site, kind, name, body, late) for (kind, name), body in changes.items()]
        deleted = pa.array([body is None for body in changes.values()])
        batch = as_batch(rows)
        for name, value in (("deleted", deleted), ("resource", pc.if_else(deleted, None, batch["resource"]))):
            batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), value)
        self.lake.append(site, [batch], Cursor("test", complete=True))

    def _row(self, site: str, kind: str, name: str, body: dict[str, Any] | None, late: bool) -> Resource:
        self.written += 1
        moment = FIRST + timedelta(minutes=-self.written if late else self.written)
        meta = {"versionId": str(self.written), "lastUpdated": moment.isoformat().replace("+00:00", "Z")}
        if body is None:
            self.held.pop((site, kind, name), None)
            gone = _read({"resourceType": kind, "id": name, "meta": meta})
            return msgspec.structs.replace(gone, raw="", patient=None, digest="")
        if not late or (site, kind, name) not in self.held:
            self.held[site, kind, name] = body
        return _read({**body, "meta": {**body.get("meta", {}), **meta}})


def _read(body: dict[str, Any]) -> Resource:
    found = read_resource(json.dumps(body).encode(), "test")
    assert isinstance(found, Resource), found
    return found


def settled(data: Path, sites: tuple[str, ...] = SITES, terminology: tuple[Path, ...] = ()) -> Settings:
    """The configuration of `sites` over the lake in `data`."""
    folders = tuple(FolderSite(name=name, kind="folder", path=data / "fhir") for name in sites)
    return Settings.model_validate({"data_dir": data, "sites": folders, "mapping": {"terminology": terminology}})


def mapped(settings: Settings, study: Study | None = None, *, full: bool = False) -> MapReport:
    """One run of the stage `map`."""
    pipeline = Pipeline({"PERIOP_PSEUDONYM_KEY": KEY})
    with compiled_once(settings.data_dir):
        return pipeline.map_lake(settings, study or ALNEO, progress=lambda _: None, full=full)


def fresh(settings: Settings, folder: Path) -> Settings:
    """The same configuration over the same lake, with nothing derived yet but the compiled SQL."""
    folder.mkdir()
    (folder / "lake").symlink_to(settings.lake_dir, target_is_directory=True)
    shutil.copytree(settings.data_dir / "views" / ".compiled", folder / "views" / ".compiled")
    return settings.model_copy(update={"data_dir": folder})


def tables(settings: Settings) -> dict[str, pa.Table]:
    """All tables of the cohort folder at all cuts, by their path in it."""
    folder = settings.cohort_dir
    return {str(path.relative_to(folder)): pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))}


def differing(one: Settings, other: Settings) -> list[str]:
    """The tables of two cohort folders that are not equal in columns, types, rows and their order."""
    left, right = tables(one), tables(other)
    names = left.keys() | right.keys()
    return sorted(name for name in names if name not in left or not left[name].equals(right.get(name)))

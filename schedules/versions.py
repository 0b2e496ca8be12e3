"""Which versions of the lake are current, by the versions that are not: few, and never current again.

Of the versions of a resource the one with the newest ``meta.lastUpdated`` is current (an instant, FHIR R4 2.24.0.1),
among equals that of the later sync. Every other one is superseded, and stays so whatever comes later, so the list of
them is appended to: a night looks at the versions of the resources that it brought, and at no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import ibis
import ibis.expr.types as ir
from deltalake import DeltaTable
from ibis import _

from connectors.store.lake import SCHEMA, Lake, LakeFile
from mappers.engine import Engine

VERSION = ("site", "id", "version_id", "sync")
RESOURCE = ("site", "id")


@dataclass(frozen=True)
class Snapshot:
    """The lake at one moment. `ordinal` is read first: a sync that comes meanwhile is for the next refresh."""

    ordinal: int
    identity: str
    files: tuple[LakeFile, ...]

    @classmethod
    def of(cls, lake: Lake) -> Snapshot:
        """The lake now."""
        identity = str(DeltaTable(str(lake.path)).metadata().id) if lake.exists() else ""
        return cls(lake.ordinal(), identity, lake.files())

    def rows(self, engine: Engine, resource_type: str) -> ir.Table:
        """All rows of one resource type up to `ordinal`."""
        found = lake_rows(engine, [file for file in self.files if file.resource_type == resource_type])
        rows = engine.register("no_resources", SCHEMA.empty_table()) if found is None else found
        return rows.filter(_["sync"] <= self.ordinal)


def lake_rows(engine: Engine, files: Sequence[LakeFile]) -> ir.Table | None:
    """Rows of lake files, with the partition columns that are not in the files; None for no files."""
    key = lambda file: (file.site, file.resource_type)  # noqa: E731
    parts = [
        engine.read_parquet([file.path for file in group]).mutate(
            site=ibis.literal(site), resource_type=ibis.literal(kind)
        )
        for (site, kind), group in groupby(sorted(files, key=key), key=key)
    ]
    return ibis.union(*parts) if len(parts) > 1 else (parts[0] if parts else None)


def resources_since(rows: ir.Table, ordinal: int) -> ir.Table:
    """(site, id) of what the syncs after `ordinal` brought, deletions among it."""
    return rows.filter(_["sync"] > ordinal).select(*RESOURCE).distinct()


def superseded(rows: ir.Table, since: int) -> ir.Table:
    """(site, id, version_id, sync) of what is no longer current, of resources that a sync after `since` brought.

    `rows` are those of the lake of one resource type. A deletion is a version of which no view has rows: after one,
    every version with rows is superseded.
    """
    newest_first = [
        _["last_updated"].try_cast("timestamp('UTC')").desc(nulls_first=False),
        _["sync"].desc(),
        _["version_id"].desc(),
    ]
    rows = rows.select(*VERSION, "last_updated", "deleted")  # not the text of resources: it would be read
    versions = _several(rows) if since == 0 else rows.semi_join(resources_since(rows, since), list(RESOURCE))
    nth = ibis.row_number().over(ibis.window(group_by=list(RESOURCE), order_by=newest_first))
    current = versions.mutate(nth=nth).filter(_["nth"] == 0, ~_["deleted"])
    return versions.anti_join(current, list(VERSION)).select(*VERSION)


def _several(rows: ir.Table) -> ir.Table:
    """Rows of the resources with more than one version, and of the few others that share a hash with such a one.

    Counting hashes takes a fraction of the memory of counting ids.
    """
    hashed = rows.mutate(hashed=_["id"].hash())
    counted = hashed.group_by("site", "hashed").agg(versions=_.count()).filter(_["versions"] > 1)
    return hashed.semi_join(counted, ["site", "hashed"]).drop("hashed")

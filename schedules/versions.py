"""Which versions of the lake are current, by the versions that are not: few, and never current again.

Of the versions of a resource the one with the newest ``meta.lastUpdated`` is current (an instant, FHIR R4 2.24.0.1),
among equals that of the later sync. Every other one is superseded, and stays so whatever comes later, so the list of
them is appended to: a night looks at the versions of the resources that it brought, and at no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import ibis
import ibis.expr.types as ir
from ibis import _

from connectors.store.lake import SCHEMA, LakeFile
from mappers.engine import Files

VERSION = ("site", "id", "version_id", "sync")
VERSION_TYPES = {"site": "string", "id": "string", "version_id": "string", "sync": "int64"}
RESOURCE = ("site", "id")


def lake_parts(files: Sequence[LakeFile]) -> list[Files]:
    """Files of the lake as an engine reads them, with the partition columns that are not in the files."""
    key = lambda file: (file.site, file.resource_type)  # noqa: E731
    return [
        Files(tuple(file.path for file in group), {"site": site, "resource_type": kind})
        for (site, kind), group in groupby(sorted(files, key=key), key=key)
    ]


def lake_table(name: str) -> ir.Table:
    """The rows of lake files, under the name that they are scanned by."""
    return ibis.table(ibis.Schema.from_pyarrow(SCHEMA), name=name)


def brought_since(rows: ir.Table, ordinal: int) -> ir.Table:
    """(site, id) of what the syncs after `ordinal` brought, deletions among it."""
    return rows.filter(_["sync"] > ordinal).select(*RESOURCE).distinct()


def versions(rows: ir.Table) -> ir.Table:
    """What tells versions apart, of rows of the lake: not the text of resources, which would be read."""
    return rows.select(*VERSION, "last_updated", "deleted")


def several_versions(rows: ir.Table) -> ir.Table:
    """`versions` of the resources with more than one, and of the few others that share a hash with such a one.

    Counting hashes takes a fraction of the memory of counting ids.
    """
    hashed = versions(rows).mutate(hashed=_["id"].hash())
    counted = hashed.group_by("site", "hashed").agg(versions=_.count()).filter(_["versions"] > 1)
    return hashed.semi_join(counted, ["site", "hashed"]).drop("hashed")


def superseded(versions: ir.Table) -> ir.Table:
    """(site, id, version_id, sync) of what is no longer current, where `versions` are all those of some resources.

    A deletion is a version of which no view has rows: after one, every version with rows is superseded.
    """
    newest_first = [
        _["last_updated"].try_cast("timestamp('UTC')").desc(nulls_first=False),
        _["sync"].desc(),
        _["version_id"].desc(),
    ]
    nth = ibis.row_number().over(ibis.window(group_by=list(RESOURCE), order_by=newest_first))
    current = versions.mutate(nth=nth).filter(_["nth"] == 0, ~_["deleted"])
    return versions.anti_join(current, list(VERSION)).select(*VERSION)

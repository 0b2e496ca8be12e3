"""Which versions of the lake are current, by the versions that are not: few, and never current again.

`connectors.lake.current` says which version of a resource is current. Every other one is superseded, and stays so
whatever comes later, so the list of them is appended to: a night looks at the versions of the resources that it
brought, and at no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from connectors.lake.current import RESOURCE, VERSION
from connectors.lake.table import SCHEMA, LakeFile
from mappers.build.lookup import rows_by_id
from mappers.engines.duckdb import Files

BROUGHT = (*RESOURCE, "sync")
VERSIONS_SCHEMA = pa.schema([SCHEMA.field(name) for name in (*VERSION, "last_updated", "deleted")])
REPEATED = ("version_id", "last_updated")
STORED = [name for name in VERSIONS_SCHEMA.names if name != "site"]  # that is in the path of a file


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
    """(site, id, sync) of what the syncs after `ordinal` brought, deletions among it."""
    return rows.filter(_["sync"] > ordinal).select(*BROUGHT).distinct()


def versions_of(ids: pa.Array, files: Iterable[LakeFile]) -> pa.Table:
    """All versions in `files` of the resources that have one of `ids`, as rows of VERSIONS_SCHEMA.

    Raises:
        MappingError: a file cannot be read.
    """
    wanted = pc.unique(ids).sort()
    found = [VERSIONS_SCHEMA.empty_table()]
    for file in files:
        for rows in rows_by_id(file.path, wanted, STORED, REPEATED):
            site = pa.repeat(pa.scalar(file.site, pa.string()), len(rows))
            found.append(rows.append_column("site", site).select(VERSIONS_SCHEMA.names).cast(VERSIONS_SCHEMA))
    return pa.concat_tables(found)


def several_versions(rows: ir.Table) -> ir.Table:
    """Rows of VERSIONS_SCHEMA of the resources with more than one version.

    A few others are among them, which share a hash with such a one: counting hashes takes a fraction of the memory of
    counting ids.
    """
    hashed = rows.select(*VERSIONS_SCHEMA.names).mutate(hashed=_["id"].hash())  # not the text, which would be read
    counted = hashed.group_by("site", "hashed").agg(versions=_.count()).filter(_["versions"] > 1)
    return hashed.semi_join(counted, ["site", "hashed"]).drop("hashed")

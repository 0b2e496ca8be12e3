"""The rule that says which version of a resource is current. It is written here and nowhere else.

Of all versions of a resource in the lake the current one is the one with

1. the latest ``meta.lastUpdated``, compared as instants (FHIR R4 2.24.0.1; a version without it is before all others),
2. among those, the highest sync number,
3. among those, the highest version id (so that the answer is always the same; a sync stores at most one version).

A deletion is a version too. A resource whose current version is a deletion has no current content.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir
from ibis import _

VERSION = ("site", "id", "version_id", "sync")  # names one version within a resource type
VERSION_TYPES = {"site": "string", "id": "string", "version_id": "string", "sync": "int64"}
RESOURCE = ("site", "id")  # names one resource within a resource type


def newest(versions: ir.Table, resource: Sequence[str] = RESOURCE) -> ir.Table:
    """Return the current version of each resource, also where it is a deletion.

    Args:
        versions: all versions of some resources, with the columns `last_updated`, `sync` and `version_id` of the lake.
        resource: the columns that name a resource.
    """
    newest_first = [
        _["last_updated"].try_cast("timestamp('UTC')").desc(nulls_first=False),
        _["sync"].desc(),
        _["version_id"].desc(),
    ]
    rank = ibis.row_number().over(ibis.window(group_by=list(resource), order_by=newest_first))
    return versions.mutate(nth=rank).filter(_["nth"] == 0).drop("nth")


def superseded(versions: ir.Table) -> ir.Table:
    """Return (site, id, version_id, sync) of each version that is not current, `versions` being all of some resources.

    A deletion is listed as well: it has no content, and the versions before it are no longer current.
    """
    current = newest(versions).filter(~_["deleted"])
    return versions.anti_join(current, list(VERSION)).select(*VERSION)

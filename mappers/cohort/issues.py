"""Issues of the quality list, counted per patient: the module that owns a rule counts what the rule could not use."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort.facts import KEY


def count(rows: ir.Table, domain: str, issue: str, by: tuple[str, ...] = KEY) -> ir.Table:
    """Return the number of `rows` of each key as one issue of the quality list."""
    counted = rows.group_by(*by).agg(COUNT=_.count())
    return counted.select(*by, DOMAIN=ibis.literal(domain), ISSUE=ibis.literal(issue), COUNT=_["COUNT"])


def listed(patients: ir.Table, counts: Mapping[tuple[str, str], ir.Value]) -> ir.Table:
    """Return the counts above 0 of each patient as rows; `counts` are numbers or booleans by (domain, issue).

    One reading for all issues; a union of one for each takes longer to plan than to run.
    """
    issues = [
        ibis.struct({"DOMAIN": domain, "ISSUE": issue, "COUNT": count.cast("int64").fill_null(0)})
        for (domain, issue), count in counts.items()
    ]
    rows = patients.select(*KEY, found=ibis.array(issues).unnest())
    rows = rows.select(*KEY, **{name: _["found"][name] for name in ("DOMAIN", "ISSUE", "COUNT")})
    return rows.filter(_["COUNT"] > 0)

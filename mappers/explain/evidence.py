"""The resources of one patient as the rules look at them: with their dates, and with what their codes mean.

The queries read the views of one patient (`mappers.build.opened`), by the same functions as the cohort tables do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.build.opened import OpenedLake
from mappers.cohort.asked import Question
from mappers.cohort.evidence import Evidence
from mappers.cohort.facts import DATE_COLUMNS, RESOURCE_TYPES, Sources, written_date
from mappers.cohort.quality import UNUSED
from mappers.cohort.variables import OF_PARAMETERS, VARIABLES, Variable
from mappers.study import Study

LASTING = ("medication_statement",)  # may begin before surgery and end after it


@dataclass(frozen=True)
class Resource:
    """One resource of the patient.

    Attributes:
        written: its date as written; `day` and `flag` are what becomes of it, as in `mappers.dates`.
        lasting: the resource is about a time that may have no end; `until` is the day on which it ended.
        labelled: it is labelled as test data.
        unused: why its status forbids to use it.
    """

    view: str
    id: str
    version: str | None
    written: str | None
    day: date | None
    flag: str | None
    lasting: bool
    until: date | None
    labelled: bool
    unused: str | None

    @property
    def type(self) -> str:
        """The type of the resource."""
        return RESOURCE_TYPES[self.view]


@dataclass(frozen=True)
class PatientEvidence:
    """All resources of one patient by (view, id), and what is understood of them.

    `meanings` holds (view, element, name) by (view, id): the value sets and concept maps that understand the element.
    `codings` are the codes of the patient's conditions as written, for who was screened by none of them.
    """

    resources: dict[tuple[str, str], Resource]
    meanings: dict[tuple[str, str], frozenset[tuple[str, str]]]
    codings: tuple[dict[str, Any], ...]

    def considered(self, evidence: Evidence) -> Iterator[Resource]:
        """Yield the resources that are of this evidence's question, in the order of their dates."""
        found = [each for (view, _id), each in self.resources.items() if view == evidence.view]
        for each in sorted(found, key=lambda resource: (resource.written or "", resource.id)):
            if evidence.question is None or self.has(each, *evidence.question):
                yield each

    def has(self, resource: Resource, element: str, names: tuple[str, ...]) -> bool:
        """Return whether one of `names` understands the element."""
        known = self.meanings.get((resource.view, resource.id), frozenset())
        return any((element, name) in known for name in names)


def every_variable() -> Iterator[Variable]:
    """Yield the variables of all tables, and the parameters."""
    for tables in (VARIABLES, OF_PARAMETERS):
        for variables in tables.values():
            yield from variables.values()


def asks(study: Study) -> frozenset[Question]:
    """Return everything that the variables look up."""
    return frozenset(ask for each in every_variable() for one in each.evidence for ask in one.of(study).asks())


def resource_query(sources: Sources) -> ir.Table:
    """Return (view, id, written, day, flag, lasting, until, labelled, unused) of all resources in the views."""
    return ibis.union(*(_resources(sources, view) for view in RESOURCE_TYPES))


def _resources(sources: Sources, view: str) -> ir.Table:
    rows = sources.views[view]
    null = ibis.null("string")
    written = written_date(view, rows).cast("string") if view in DATE_COLUMNS else null
    rows = rows.select(
        "id",
        written_=written,
        end_=rows["end"].cast("string") if view in LASTING else null,
        labelled=rows["test_data"].fill_null(False),
        # A status that is not there forbids as the rule of the view says.
        unused=UNUSED[view][0].resolve(rows).fill_null(False).ifelse(UNUSED[view][1], null) if view in UNUSED else null,
    )
    day, flag = dates.day(_["written_"]), dates.flag(_["written_"])
    return rows.select(
        "id",
        "labelled",
        "unused",
        written=_["written_"],
        day=day,
        flag=flag,
        lasting=ibis.literal(view in LASTING),
        until=dates.day(_["end_"]),
        view=ibis.literal(view),
    )


def meaning_query(sources: Sources) -> ir.Table:
    """Return (view, id, element, name) of all that any value set or concept map understands."""
    views = sorted({view for view, _element, _name in asks(sources.study)})
    found = [sources.meanings(view).select("id", "element", "name", view=ibis.literal(view)) for view in views]
    return ibis.union(*found, distinct=True)


def coding_query(sources: Sources) -> ir.Table:
    """Return (id, system, code, text) of the codes of the conditions: the display, else the text of the concept."""
    codings = sources.codings("condition").filter(_["element"] == "code")
    owned = sources.resources("condition")
    said = ibis.coalesce(_["display"], _["text"])
    return codings.semi_join(owned, ["site", "id"]).select("id", "system", "code", text=said)


def read_evidence(lake: OpenedLake, sources: Sources) -> PatientEvidence:
    """Run the queries on the views of one patient."""
    engine = lake.engine

    def rows(table: ir.Table) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = engine.arrow(engine.compile(table)).to_pylist()
        return found

    versions = {(row["view"], row["id"]): row["version_id"] for row in rows(_versions(lake, sources))}
    resources = {
        (row["view"], row["id"]): Resource(**row, version=versions.get((row["view"], row["id"])))
        for row in rows(resource_query(sources))
    }
    meanings: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
    for row in rows(meaning_query(sources)):
        key = row["view"], row["id"]
        meanings[key] = meanings.get(key, frozenset()) | {(row["element"], row["name"])}
    return PatientEvidence(resources, meanings, tuple(rows(coding_query(sources))))


def _versions(lake: OpenedLake, sources: Sources) -> ir.Table:
    """Return (view, id, version_id) of the current versions of the patient's resources."""
    found = []
    for view in RESOURCE_TYPES:
        own = sources.views[view].select("site", "id").distinct()
        rows = lake.views[view].newest_versions(lake.views[view].all_rows.semi_join(own, ["site", "id"]))
        found.append(rows.select("id", "version_id", view=ibis.literal(view)))
    return ibis.union(*found, distinct=True)

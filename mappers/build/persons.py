"""The person of a resource: several records of one person (Patient.link), and references by identifier.

The lake holds the patient of a resource as it was referred to: the id of a Patient, or an identifier to be looked up
(`connectors.fhir.references`). The table `persons` says whose such a key is where it is not the key itself; rows of
views come to the cohort with `patient` already being the person's canonical record.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from connectors.fhir.references import ALSO, TOKEN
from mappers.build.views import Views
from mappers.cohort.facts import RESOURCE_TYPES
from mappers.engines.base import Engine

PERSONS = "persons"
MERGED = "merged_records"
KEYS = ("site", "patient")
SCHEMA = pa.schema([(name, pa.string()) for name in (*KEYS, "person")])
LINKS, IDENTIFIERS = "patient_link", "patient_identifier"  # the views that only this module reads


@dataclass(frozen=True)
class PersonQueries:
    """SQL. `records`: the Patients that have links or are linked to. `identified`: the keys that are identifiers."""

    records: str
    identified: str


def person_queries(engine: Engine, views: Views, rows: Mapping[str, ir.Table]) -> PersonQueries:
    """Compile the queries; `rows` are those of all versions at the sites of the cohort, by view."""
    records = views[LINKS].current(rows[LINKS])
    identifiers = views[IDENTIFIERS].current(rows[IDENTIFIERS])
    return PersonQueries(engine.compile(_linked(records)), engine.compile(identified(identifiers, rows)))


def _linked(records: ir.Table) -> ir.Table:
    """Return the rows of the view of links of the records that have a link or are linked to: few of all."""
    links = records.filter(_["other"].notnull())
    named = ibis.union(links.select("site", "id"), links.select("site", id=_["other"]), distinct=True)
    return records.semi_join(named, ["site", "id"]).select("site", "id", "active", "type", "other")


def identified(identifiers: ir.Table, rows: Mapping[str, ir.Table]) -> ir.Table:
    """Return (site, patient, person) of the identifiers by which resources refer to exactly one person."""
    referred = [rows[view].filter(_["patient"].startswith(TOKEN)).select(*KEYS) for view in RESOURCE_TYPES]
    tokens = ibis.union(*referred, distinct=True)
    parts = tokens.mutate(part=_["patient"].substr(len(TOKEN)).split(ALSO).unnest())
    value, system = identifiers["value"].strip(), identifiers["system"].fill_null("").strip()
    # A conditional reference without a system, and so without a bar, means any system (FHIR R4 search.html#token).
    named = identifiers.select("site", record="id", part=ibis.array([system + "|" + value, value]).unnest())
    found = parts.join(named, ["site", "part"]).select(*KEYS, "record").distinct()
    merged = ibis.table(ibis.Schema.from_pyarrow(SCHEMA), name=MERGED)
    merged = merged.select("site", record="patient", person="person")
    found = found.join(merged, ["site", "record"], how="left", rname="{name}_merged")
    found = found.select(*KEYS, person=ibis.coalesce(_["person"], _["record"]))
    return (
        found.group_by(*KEYS)
        .agg(person=_["person"].min(), persons=_["person"].nunique())
        .filter(_["persons"] == 1)
        .drop("persons")
    )


def owned(rows: ir.Table) -> ir.Table:
    """Return rows of an entity view with `patient` being the person, and `referred` what the resource referred to.

    `patient` is null where there is no reference, or an identifier that no one person has.
    """
    persons = ibis.table(ibis.Schema.from_pyarrow(SCHEMA), name=PERSONS)
    joined = rows.join(persons, list(KEYS), how="left", rname="{name}_person")
    alone = joined["patient"].startswith(TOKEN).ifelse(ibis.null("string"), joined["patient"])
    person = ibis.coalesce(joined["person"], alone)
    return joined.select(**{name: joined[name] for name in rows.columns} | {"patient": person}, referred=_["patient"])


def keys_of(patients: ir.Table) -> ir.Table:
    """Return (site, patient) of all keys that resources of `patients` (persons) refer to."""
    persons = ibis.table(ibis.Schema.from_pyarrow(SCHEMA), name=PERSONS)
    others = persons.semi_join(patients.rename(person="patient"), ["site", "person"]).select(*KEYS)
    return ibis.union(patients, others, distinct=True)


def register_persons(engine: Engine, queries: PersonQueries) -> str:
    """Name the table `persons` for `engine`, and return a digest of it.

    The digest is part of the rules of a cohort: with other persons, all patients are derived again.
    """
    merged = merged_records(engine.arrow(queries.records).to_pylist())
    engine.register_rows(MERGED, merged)
    identified = engine.arrow(queries.identified).cast(SCHEMA)
    persons = pa.concat_tables([merged, identified]).sort_by([(name, "ascending") for name in KEYS])
    engine.register_rows(PERSONS, persons)
    digest = hashlib.sha256()
    for row in persons.to_pylist():
        digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()


def merged_records(rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Return (site, patient, person) of the records that are another record of their person.

    All kinds of `Patient.link` say that two records are of one person (FHIR R4 valueset-link-type.html), also over
    others and in circles. The canonical record is the surviving one: that which no other replaces; then the active
    one; then that with the most links to it; then the first by id.

    >>> rows = [{"site": "a", "id": "old", "active": False, "type": "replaced-by", "other": "new"},
    ...         {"site": "a", "id": "new", "active": None, "type": None, "other": None}]
    >>> merged_records(rows).to_pylist()
    [{'site': 'a', 'patient': 'old', 'person': 'new'}]
    """
    records: dict[tuple[str, str], bool] = {}  # True for one that is not active
    group: dict[tuple[str, str], set[tuple[str, str]]] = {}
    replaced: set[tuple[str, str]] = set()
    linked_to: Counter[tuple[str, str]] = Counter()
    for row in rows:
        one, other = (str(row["site"]), str(row["id"])), (str(row["site"]), str(row["other"]))
        records[one] = row["active"] is False
        if row["other"] is None:
            continue
        linked_to[other] += 1
        if row["type"] in ("replaced-by", "replaces"):
            replaced.add(one if row["type"] == "replaced-by" else other)
        # A record that is not there is one too: resources may still refer to it.
        connect(group, one, other)
    found = []
    for members in {id(each): each for each in group.values()}.values():
        present = members & records.keys()
        canonical = min(present, key=lambda each: (each in replaced, records[each], -linked_to[each], each))
        found += [(*each, canonical[1]) for each in sorted(members - {canonical})]
    columns = zip(*found, strict=True) if found else ([], [], [])
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def connect(group: dict[tuple[str, str], set[tuple[str, str]]], one: tuple[str, str], other: tuple[str, str]) -> None:
    """Join the groups of two records, which are (site, id); `group` has the group of each record."""
    # The smaller goes into the larger, so that long chains of links take no longer than their number times its log.
    smaller, larger = sorted((group.setdefault(one, {one}), group.setdefault(other, {other})), key=len)
    if smaller is not larger:
        larger |= smaller
        group.update(dict.fromkeys(smaller, larger))

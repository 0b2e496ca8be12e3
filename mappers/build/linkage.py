"""Patients who are known at several sites: found by the keyed hash of an identifier, so that each is counted once.

Only identifiers of the configured systems count, those that no two people share, such as a national health number. Two
patients of different sites with the same one are the same person; so are those who are linked over a third. The table
`linked_patients` says who belongs together; whom of them the cohort counts is a rule of it
(`mappers.cohort.eligibility.counted_once`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from mappers.build.persons import connect
from mappers.cohort.eligibility import DIFFERING, SEVERAL_AT_ONE_SITE
from mappers.cohort.facts import KEY, keyed_hash
from mappers.cohort.people import SEXES
from mappers.engines.base import Engine

LINKED = "linked_patients"
# `person_key` is the same for the records of one person, `place` that of the site in the order of the configuration;
# `conflict` says why a patient is not linked in spite of the identifier, and then there is no `person_key`.
SCHEMA = pa.schema([(name, pa.string()) for name in (*KEY, "person_key", "conflict")] + [pa.field("place", pa.int32())])
WHOLE_DAY = len("2000-01-31")


def linked_patients() -> ir.Table:
    """Return the table that `register_linked` names: site, patient, person_key, conflict, place."""
    return ibis.table(ibis.Schema.from_pyarrow(SCHEMA), name=LINKED)


def shared_identifiers(people: ir.Table, identifiers: ir.Table, systems: Sequence[str]) -> ir.Table:
    """Return (site, patient, key, gender, birth_date) of the records with an identifier that another site has too.

    Args:
        people: current rows of the view of patients, `patient` being the person.
        identifiers: current rows of the view of identifiers.
        systems: those that identify a person.
    """
    system, value = identifiers["system"].strip(), identifiers["value"].strip()
    # Hashed here, so that no identifier leaves the engine; apart from the pseudonyms, whose text is an id alone.
    key = keyed_hash(ibis.literal("periop identifier\n") + system + "|" + value)
    told = identifiers.filter(system.isin(list(systems)), value != "").select("site", "id", key=key)
    at_several = told.group_by("key").agg(sites=_["site"].nunique()).filter(_["sites"] > 1)
    # What is labelled as test data is no person, and a test patient may carry the number of a real one.
    real = people.filter(~_["test_data"].fill_null(False)).select(*KEY, "id", "gender", "birth_date")
    return told.semi_join(at_several, "key").join(real, ["site", "id"]).drop("id").distinct()


def register_linked(engine: Engine, sql: str, sites: Sequence[str]) -> str:
    """Name the table `linked_patients` for `engine`, and return a digest of it, as `register_persons` does.

    Args:
        engine: that holds the views.
        sql: of `shared_identifiers`.
        sites: in the order in which they come first.
    """
    rows = linked_records(engine.arrow(sql).to_pylist(), sites)
    engine.register_rows(LINKED, rows)
    return hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest()


def linked_records(rows: Iterable[Mapping[str, object]], sites: Sequence[str]) -> pa.Table:
    """Return who is one person with whom (`SCHEMA`), from the rows of `shared_identifiers`.

    A person of several records at one site that nobody has linked stays apart there (docs/decisions/0034), and an
    identifier that such records share may be a placeholder: then none of them is linked to another site. Nor are
    records whose sex or date of birth differ, because a number may be mistyped. Both are told.

    >>> rows = [{"site": site, "patient": id_, "key": "k", "gender": "male", "birth_date": None}
    ...         for site, id_ in (("rome", "1"), ("milan", "7"))]
    >>> [(row["site"], row["place"]) for row in linked_records(rows, ["rome", "milan"]).to_pylist()]
    [('milan', 1), ('rome', 0)]
    """
    group: dict[tuple[str, str], set[tuple[str, str]]] = {}
    with_key: dict[object, tuple[str, str]] = {}
    sexes: dict[tuple[str, str], set[object]] = defaultdict(set)
    births: dict[tuple[str, str], set[object]] = defaultdict(set)
    for row in rows:
        one = (str(row["site"]), str(row["patient"]))
        connect(group, one, with_key.setdefault(row["key"], one))
        if row["gender"] in SEXES:
            sexes[one].add(row["gender"])
        if len(str(row["birth_date"] or "")) == WHOLE_DAY:  # a partial one agrees with many
            births[one].add(row["birth_date"])
    found = []
    for members in {id(each): each for each in group.values()}.values():
        ordered = sorted(members, key=lambda each: (sites.index(each[0]), each))
        if len(members) == 1:
            continue  # the other site has the identifier in a record that counts for nobody
        conflict = None
        if len({site for site, _id in members}) < len(members):
            conflict = SEVERAL_AT_ONE_SITE
        elif any(len(set[object]().union(*(said[each] for each in members))) > 1 for said in (sexes, births)):
            conflict = DIFFERING
        # A name for the group within one map; it is no identifier, and goes into no file.
        key = None if conflict else "/".join(ordered[0])
        found += [(*each, key, conflict, sites.index(each[0])) for each in ordered]
    columns = zip(*sorted(found), strict=True) if found else ((),) * len(SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def with_linked(patients: ir.Table) -> ir.Table:
    """Return `patients` (site, patient) and those who are one person with them: one may move the place of the other."""
    linked = linked_patients().filter(_["person_key"].notnull())
    others = linked.semi_join(linked.semi_join(patients, list(KEY)), "person_key").select(*KEY)
    return ibis.union(patients, others, distinct=True)

"""Meanings of codings and texts, in SQL: the distinct ones of a view are resolved once, then joined with its rows.

`Terminology.tables` are rows that an engine holds: the conditions of all rules, and the names of code systems. A coding
has a meaning by name of a value set or concept map: the rule that counts (`preference`) gives its `target`, and `rank`,
the order of the file, decides where one concept carries several codings (FHIR R4 4.1.4: a CodeableConcept may repeat a
meaning).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from mappers.errors import TerminologyError
from mappers.terminology.rules import Rule, preference
from mappers.terminology.systems import NO_SYSTEM, TEXT, Systems, code_systems, normal_codings_sql, normal_text_sql

PART = ("site", "id", "part")

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("rule", pa.int32()),
        ("conditions", pa.int32()),  # how many of a rule's conditions are not negated
        ("negated", pa.bool_()),
        ("kind", pa.string()),
        ("system", pa.string()),
        ("code", pa.string()),
        ("target", pa.string()),
        ("preference", pa.int32()),
        ("rank", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Terminology:
    """All value sets and concept maps.

    Attributes:
        rules: the rules of each name in the order in which they count for a concept with several codings.
        rows: their conditions as rows, see `SCHEMA`.
        systems: the names of code systems.
        notes: sentences on what of a hospital's files was not used.
        engine_tables: the tables of an engine that hold `tables`; without them they are read from memory.
    """

    rules: Mapping[str, tuple[Rule, ...]]
    rows: pa.Table
    systems: Systems
    notes: tuple[str, ...] = ()
    engine_tables: Mapping[str, ir.Table] | None = None

    @classmethod
    def of(
        cls,
        rules: Mapping[str, Sequence[Rule]],
        systems: Systems,
        without_system: Mapping[str, Sequence[tuple[int, Rule]]],
        notes: tuple[str, ...] = (),
    ) -> Terminology:
        """Return the terminology of rules by name; `without_system` has further ones (rank, rule) that count last."""
        records = [
            record
            for name, found in sorted(rules.items())
            for record in _records(name, [*enumerate(found), *without_system.get(name, ())], len(found))
        ]
        kept = {name: tuple(found) for name, found in rules.items()}
        return cls(kept, pa.Table.from_pylist(records, schema=SCHEMA), systems, notes)

    @property
    def names(self) -> frozenset[str]:
        """The names that exist."""
        return frozenset(self.rules)

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The rows that an engine holds, by the name of their table."""
        return {"terminology": self.rows, "code_systems": self.systems.rows}

    def bound(self, tables: Mapping[str, ir.Table]) -> Terminology:
        """Return the same terminology, read from `tables`: its own as an engine holds them."""
        return replace(self, engine_tables=tables)

    @cached_property
    def _held(self) -> Mapping[str, ir.Table]:
        return self.engine_tables or {name: ibis.memtable(rows) for name, rows in self.tables.items()}

    def known(self, name: str) -> str:
        """Return `name`. Raises TerminologyError where no file defines it."""
        if name not in self.rules:
            names = ", ".join(sorted(self.rules))
            raise TerminologyError(f"no value set or concept map is named {name!r}: the known ones are {names}")
        return name

    def codes(self, name: str) -> list[tuple[str, str]]:
        """Return (system, code) of the single codes of one name, in order, for a FHIR token search.

        What is said by the beginning of a code, and what is text, cannot be searched for.
        """
        written = [rule.written for rule in self.rules[self.known(name)] if rule.written is not None]
        return [(system, code) for system, code in written if system not in ("", TEXT, NO_SYSTEM)]

    def search_tokens(self, name: str) -> list[str]:
        """Return what a FHIR server is searched for to find the codes of one name (FHIR R4 3.1.1.4.10, token).

        A code of a public system is asked for without its system, because a server may have it under an older name or
        an OID, and an ICD-10 code also without its dot; what is found too much, the mapping leaves out.
        """
        public = code_systems()[0]
        tokens: list[str] = []
        for uri, code in self.codes(name):
            system = self.systems.find(uri)
            tokens += [code] if system.uri in public else [f"{uri}|{code}"]
            if system.form == "icd10" and "." in code:
                tokens.append(code.replace(".", ""))
        return list(dict.fromkeys(tokens))

    def target(self, name: str, system: str, code: str) -> str | None:
        """Return what one code means by a concept map, or "" by a value set that has it; None where it is not known.

        The slow and obvious way of what the tables below do for all codings of a lake.

        >>> from mappers.terminology import load_terminology
        >>> load_terminology().target("recist", "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "C159547")
        'PR'
        """
        normal = self.systems.normal(system, code)
        found = [rule for rule in self.rules[self.known(name)] if rule.holds(*normal)]
        best = min(found, key=preference, default=None)
        return None if best is None or best.target == "" else best.target or ""

    def normal_codings(self, codings: ir.Table) -> ir.Table:
        """Return the distinct (system, code) of codings with their `canonical` system and `normal` code.

        A missing system is empty.
        """
        pairs = codings.filter(_["code"].notnull()).select("code", system=_["system"].fill_null("")).distinct()
        return normal_codings_sql(pairs, self._held["code_systems"])

    def code_meanings(self, normal: ir.Table) -> ir.Table:
        """Return (system, code, name, target, rank) of the canonical codes of `normal` that a name understands."""
        rules = self._held["terminology"].rename(wanted_system="system", wanted="code")
        codes = normal.select(system=_["canonical"], code=_["normal"]).distinct()
        exact = codes.join(rules.filter(_["kind"] == "code"), [("system", "wanted_system"), ("code", "wanted")])
        within = codes.join(rules.filter(_["kind"] != "code"), [("system", "wanted_system")])
        begins = within.filter(_["kind"] == "prefix").filter(_["code"].startswith(_["wanted"]))
        matches = within.filter(_["kind"] == "regex").filter(_["code"].re_search(_["wanted"]))
        columns = ("system", "code", "name", "rule", "conditions", "target", "preference", "rank")
        met = ibis.union(*(table.select(*columns, "negated") for table in (exact, begins, matches)))
        rows = met.group_by(*columns).agg(held=_.count(where=~_["negated"]), broken=_.count(where=_["negated"]))
        rows = rows.filter(_["held"] == _["conditions"], _["broken"] == 0)
        return _preferred(rows, ("system", "code", "name"))

    def text_meanings(self, codings: ir.Table) -> ir.Table:
        """Return (text, name, target, rank) of the distinct texts of codings that a name understands."""
        texts = codings.filter(_["text"].notnull()).select("text").distinct()
        texts = texts.mutate(words=normal_text_sql(texts["text"]))
        rules = self._held["terminology"].filter(_["system"] == TEXT).drop("system")
        return _preferred(texts.join(rules, [("words", "code")]), ("text", "name"))


def meanings(known: ir.Table, codes: ir.Table, texts: ir.Table) -> ir.Table:
    """Return what the codings and texts of `known` mean: (site, id, part, element, name, target, nth), one row each.

    `codes` and `texts` are `code_meanings` and `text_meanings`. Of one element of a part the meaning by a name with
    `nth` 0 counts: a coding before a text, and of several codings that of the lowest rank.
    """
    # An empty target takes the meaning from a code.
    named = (_["target"] != "").fill_null(True)
    coded = known.join(codes.filter(named), ["system", "code"]).mutate(said=False)
    said = known.join(texts.filter(named), ["text"]).mutate(said=True)
    columns = (*PART, "element", "name", "code", "target", "rank", "said")
    rows = coded.select(*columns).union(said.select(*columns))
    order = ["said", "rank", "code", "target"]
    nth = ibis.row_number().over(ibis.window(group_by=[*PART, "element", "name"], order_by=order))
    return rows.select(*PART, "element", "name", "target", nth=nth)


def _preferred(rows: ir.Table, by: tuple[str, ...]) -> ir.Table:
    """Return the rule that counts for each key."""
    first = ibis.row_number().over(ibis.window(group_by=by, order_by=["preference", "rank"]))
    return rows.mutate(nth=first).filter(_["nth"] == 0).select(*by, "target", "rank")


def _records(name: str, rules: Sequence[tuple[int, Rule]], listed: int) -> Iterator[dict[str, object]]:
    """Yield the rows of the rules (rank, rule) of one name; those after the first `listed` count after all others."""
    order = sorted(range(len(rules)), key=lambda number: (number >= listed, preference(rules[number][1]), number))
    preferences = {number: position for position, number in enumerate(order)}
    for number, (rank, rule) in enumerate(rules):
        for condition in rule.conditions:
            yield {
                "name": name,
                "rule": number,
                "conditions": sum(not each.negated for each in rule.conditions),
                "negated": condition.negated,
                "kind": condition.kind,
                "system": condition.system,
                "code": condition.value,
                "target": rule.target,
                "preference": preferences[number],
                "rank": rank,
            }

"""Value sets and concept maps: FHIR JSON files of `mappers/valuesets/` as one table that codings are joined with.

A ValueSet says which codes belong to a concept (`compose.include`); a ConceptMap says which analysis value a code
means (`group.element.target`). Both become rows ``name, system, code, target, rank``; `rank` is the order in the file
and decides when one concept carries several codings (FHIR R4 4.1.4: a CodeableConcept may repeat a meaning).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mappers.errors import TerminologyError

SHIPPED = Path(__file__).parent / "valuesets"
KEYS = ("site", "id")

_SCHEMA = pa.schema({**dict.fromkeys(("name", "system", "code", "target"), pa.string()), "rank": pa.int32()})


def _members(resource: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Return (system, code, target) of a ValueSet or ConceptMap, in file order."""
    for include in resource.get("compose", {}).get("include", []):
        for concept in include.get("concept", []):
            yield include["system"], concept["code"], None
    for group in resource.get("group", []):
        for element in group.get("element", []):
            # One target a code: the first one listed counts.
            for target in element.get("target", [])[:1]:
                yield group["source"], element["code"], target["code"]


@dataclass(frozen=True)
class Terminology:
    """All value sets and concept maps as rows; `names` are the ones that exist."""

    rows: pa.Table
    names: frozenset[str]
    engine_table: ir.Table | None = None

    def codes(self, name: str) -> list[tuple[str, str]]:
        """Return (system, code) of one value set in file order, which is what a FHIR token search asks for."""
        self._known(name)
        return [(r["system"], r["code"]) for r in self.rows.to_pylist() if r["name"] == name]

    def bound(self, table: ir.Table) -> Terminology:
        """Return the same terminology, read from `table`: its `rows` as an engine holds them."""
        return replace(self, engine_table=table)

    @cached_property
    def _table(self) -> ir.Table:
        return ibis.memtable(self.rows) if self.engine_table is None else self.engine_table

    def table(self, name: str) -> ir.Table:
        """Return the rows of one value set or concept map, as an Ibis table."""
        self._known(name)
        return self._table.filter(ibis._["name"] == name).drop("name")

    def all_codes(self) -> ir.Table:
        """Return (system, code) of all value sets and concept maps together."""
        return self._table.select("system", "code").distinct()

    def member(self, codings: ir.Table, element: str, name: str) -> ir.Table:
        """Return distinct (site, id) of the resources of which `element` carries a code of value set `name`."""
        return _joined(codings, element, self.table(name)).select(*KEYS).distinct()

    def mapped(self, codings: ir.Table, element: str, name: str) -> ir.Table:
        """Return (site, id, value): `element` by concept map `name`; of several codings the lowest rank wins."""
        joined = _joined(codings, element, self.table(name))
        # One value a resource: a CodeableConcept may repeat a meaning in several codings.
        first = ibis.row_number().over(ibis.window(group_by=KEYS, order_by=["rank", "code"]))
        return joined.mutate(nth=first).filter(ibis._.nth == 0).select(*KEYS, value=ibis._["target"])

    def _known(self, name: str) -> None:
        if name not in self.names:
            known = ", ".join(sorted(self.names))
            raise TerminologyError(f"no value set or concept map is named {name!r}: the known ones are {known}")


def _joined(codings: ir.Table, element: str, members: ir.Table) -> ir.Table:
    return codings.filter(codings["element"] == element).join(members, ["system", "code"])


def load_terminology(*folders: Path) -> Terminology:
    """Read every ``*.json`` of the shipped folder and of `folders`; a later folder replaces a file of the same name.

    >>> load_terminology().codes("alk-gene")
    [('http://www.genenames.org', 'HGNC:427')]

    Raises:
        TerminologyError: a folder is not there, or a file is not a FHIR ValueSet or ConceptMap.
    """
    for folder in folders:
        if not folder.is_dir():
            raise TerminologyError(f"{folder}: no such folder; correct mapping.terminology in periop.toml")
    # Later folders win, so that a hospital can replace a shipped file.
    files = {path.stem: path for folder in (SHIPPED, *folders) for path in sorted(folder.glob("*.json"))}
    records: list[dict[str, object]] = []
    for name, path in sorted(files.items()):
        for rank, (system, code, target) in enumerate(_members(_read(path))):
            records.append({"name": name, "system": system, "code": code, "target": target, "rank": rank})
    return Terminology(pa.Table.from_pylist(records, schema=_SCHEMA), frozenset(files))


def _read(path: Path) -> dict[str, Any]:
    try:
        resource: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise TerminologyError(f"{path}: not JSON ({error}); it must be a FHIR ValueSet or ConceptMap") from None
    # Any other resource would silently give no codes.
    if resource.get("resourceType") not in ("ValueSet", "ConceptMap"):
        raise TerminologyError(f"{path}: resourceType must be ValueSet or ConceptMap")
    return resource

"""Clinical facts: what the views say of the candidates up to the data cutoff, one tidy table per kind of fact.

Every table has the key (site, patient), the `id` of its resource, and where it is dated `date` with the imputation
flag `dtf`. Rows that are refuted, entered in error, labelled as test data, undated or dated after the cutoff are not in
them; `quality` counts those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort.consent_rule import ConsentRule
from mappers.study import Study
from mappers.terminology import Terminology, meanings

KEY = ("site", "patient")
RESOURCE = ("site", "id")
PART = ("site", "id", "part")  # of a resource: 0 for itself, from 1 for its components

# FHIR R4 observation-status: preliminary, cancelled and entered-in-error results are not among them
USABLE_OBSERVATION = ("final", "amended", "corrected")
# A dose in progress, and one that was stopped, was given at least in part.
USABLE_DOSE = ("completed", "in-progress", "stopped")
# In order of preference: when it happened before when it was noticed or written down.
DATE_COLUMNS = {
    "condition": ("onset", "onset_start", "recorded"),
    "medication_administration": ("effective", "start"),
    "medication_dispense": ("handed_over", "prepared"),
    "medication_statement": ("effective", "start"),
    "procedure": ("performed", "start"),
    "adverse_event": ("date", "detected", "recorded"),
    "observation": ("effective", "effective_start", "effective_instant", "effective_event", "issued"),
    "diagnostic_report": ("effective", "effective_start", "issued"),
}
# The views with one row a resource of a patient
RESOURCE_TYPES = {
    "patient": "Patient",
    "condition": "Condition",
    "medication_administration": "MedicationAdministration",
    "medication_dispense": "MedicationDispense",
    "medication_statement": "MedicationStatement",
    "procedure": "Procedure",
    "adverse_event": "AdverseEvent",
    "observation": "Observation",
    "diagnostic_report": "DiagnosticReport",
    "consent": "Consent",
}
DRUGS = ("medication_administration", "medication_dispense", "medication_statement")
# Texts that stand where a concept could, by the view whose codings they join: (view, column)
TEXT_VALUES = {
    "observation": (("observation", "value_string"), ("observation_component", "value_string")),
    "diagnostic_report": (("diagnostic_report", "conclusion"),),
}
CANONICAL = {"system": "canonical", "code": "normal"}


@ibis.udf.scalar.builtin(name="periop_hmac")  # type: ignore[untyped-decorator]
def _hmac(message: str) -> str: ...  # type: ignore[empty-body]


@ibis.udf.scalar.builtin(name="periop_cutoff")  # type: ignore[untyped-decorator]
def _data_cutoff() -> date: ...  # type: ignore[empty-body]


def pseudonym(value: ir.Value) -> ir.StringValue:
    """Return the keyed HMAC-SHA-256 of an id, 32 hex digits; only the engine holds the key."""
    return keyed_hash(value).substr(0, 32)  # 128 bits: ids of one hospital do not collide


def keyed_hash(value: ir.Value) -> ir.StringValue:
    """Return the whole HMAC-SHA-256 of a text, as hex digits; only the engine holds the key."""
    return _hmac(value)


def subject_identifier(study: Study, site: ir.Value, patient: ir.Value) -> ir.StringValue:
    """Return USUBJID, unique across the sites of a study (ADaMIG 1.3, 3.2.1)."""
    return f"{study.id}-" + site + "-" + pseudonym(patient)


def yes_no(condition: ir.BooleanValue) -> ir.StringValue:
    """Return a flag of CDISC: Y, or N where the condition is false or null."""
    return condition.fill_null(False).ifelse("Y", "N")


def reference(view: str, identifier: ir.Value) -> ir.StringValue:
    """Return the source reference of a row, resource type and pseudonym of the id; null where there is no resource."""
    return identifier.isnull().ifelse(ibis.null("string"), f"{RESOURCE_TYPES[view]}/" + pseudonym(identifier))


def typed_reference(resource_type: ir.Value, identifier: ir.Value) -> ir.StringValue:
    """Return the source references of rows of several resource types; null where there is no resource."""
    return identifier.isnull().ifelse(ibis.null("string"), resource_type + "/" + pseudonym(identifier))


def supports(variables: str, source: ir.Value) -> list[ir.StringValue]:
    """Return an item of SRCREF for each variable (separated by blanks): its name, a blank, the source reference."""
    missing = ibis.null("string")
    return [source.isnull().ifelse(missing, f"{name} " + source) for name in variables.split()]


def references(*supported: list[ir.StringValue]) -> ir.ArrayValue:
    """Return SRCREF: the items of `supports` as one list, without nulls."""
    items = [item for items in supported for item in items]
    return ibis.array(items).filter(lambda item: item.notnull())


@dataclass(frozen=True)
class Sources:
    """The inputs of a cohort.

    `views` maps a view's name to its current rows (site, id and its columns but `key`). `patient` is the person's
    canonical record, and `referred` the key of a patient that the resource refers to. `keep` gives a table that is
    cheap to read several times; an engine materialises it, and the default leaves the expression as it is.

    Everything is derived per (site, patient), so `views` may hold the rows of some patients only; `everybody` then
    has the rows that belong to no patient, by view (without it they are looked for in `views`).

    `linked` says which patients of several sites are one person (`mappers.build.linkage`), None where it is not asked.
    `consent` has the consent that sites ask for.
    """

    views: Mapping[str, ir.Table]
    terminology: Terminology
    study: Study
    keep: Callable[[str, ir.Table], ir.Table] = lambda _name, table: table
    everybody: Mapping[str, ir.Table] = field(default_factory=dict)
    linked: ir.Table | None = None
    consent: tuple[ConsentRule, ...] = ()
    kept: dict[str, ir.Table] = field(default_factory=dict)

    @property
    def cutoff(self) -> ir.DateValue:
        """The data cutoff, which the engine is told before it runs the SQL (`Engine.set_data_cutoff`)."""
        return _data_cutoff()

    def once(self, name: str, make: Callable[[], ir.Table]) -> ir.Table:
        """Return the table of `make`, which is made and kept at the first call."""
        if name not in self.kept:
            self.kept[name] = self.keep(name, make())
        return self.kept[name]

    def resources(self, view: str) -> ir.Table:
        """Return the rows of one view that belong to a patient and are not labelled as test data."""
        rows = self.views[view]
        return rows.filter(~rows["test_data"].fill_null(False)).drop("test_data", "referred")

    def days(self, view: str) -> ir.Table:
        """Return when the resources of one view are dated: site, patient, id, `written`, `date`, `dtf`, `test_data`.

        Kept, because to read a date takes long in a hospital, and a date is the same at every data cutoff.
        """
        return self.once(f"days_{view}", lambda: self._days(view))

    def _days(self, view: str) -> ir.Table:
        rows = self.views[view]
        written = written_date(view, rows)
        return rows.select(
            *KEY,
            "id",
            test_data=rows["test_data"].fill_null(False),
            written=written.notnull(),
            date=dates.day(written),
            dtf=dates.flag(written),
        )

    def all_rows(self, view: str) -> ir.Table:
        """Return the rows of one view, of everybody."""
        return self.everybody.get(view, self.views[view])

    def codings(self, view: str) -> ir.Table:
        """Return the codings of one kind of resource: site, id, element, part, system, code, display, text.

        What a drug resource says by reference to a Medication is among its codings.
        """
        own = self.views[f"{view}_coding"]
        if view not in DRUGS:
            return own
        drugs = self.views[view].filter(_["medication"].notnull()).select("site", "id", "medication")
        named = self.views["medication_coding"].rename(medication="id").join(drugs, ["site", "medication"])
        return own.union(named.select(*own.columns))

    def known_codings(self, view: str) -> ir.Table:
        """Return the codings and texts that any value set or concept map understands: in a hospital, few of all.

        `system` and `code` are the canonical ones (`mappers.terminology.systems`), whatever the hospital writes. What
        is known by its text alone has a null code or one that nothing understands.
        """
        return self.once(f"known_{view}", lambda: self._known_codings(view))

    def _known_codings(self, view: str) -> ir.Table:
        rows = self._concepts(view)
        codes, texts = self._code_meanings(view), self._text_meanings(view)
        known = self._normal(view).semi_join(codes, [("canonical", "system"), ("normal", "code")])
        coded = rows.join(known, ["system", "code"])
        said = rows.semi_join(texts, "text").anti_join(known, ["system", "code"])
        coded = coded.select(**{name: _[CANONICAL.get(name, name)] for name in rows.columns})
        return coded.union(said.select(*rows.columns))

    def _concepts(self, view: str) -> ir.Table:
        """Return the codings of a view, a missing system empty, and what it says as text instead of a concept."""
        codings = self.codings(view).mutate(system=_["system"].fill_null(""))
        texts = [
            self.views[name]
            .filter(_[column].notnull())
            .select("site", "id", part=_["part"] if "part" in self.views[name].columns else 0, text=_[column])
            for name, column in TEXT_VALUES.get(view, ())
        ]
        missing = {"system": ibis.literal(""), "code": ibis.null("string"), "element": ibis.literal("value")}
        missing |= {"display": ibis.null("string")}
        shaped = [rows.mutate(**missing).select(*codings.columns).cast(codings.schema()) for rows in texts]
        return ibis.union(codings, *shaped) if shaped else codings

    def _normal(self, view: str) -> ir.Table:
        return self.once(f"normal_{view}", lambda: self.terminology.normal_codings(self.codings(view)))

    def _code_meanings(self, view: str) -> ir.Table:
        return self.once(f"codes_{view}", lambda: self.terminology.code_meanings(self._normal(view)))

    def _text_meanings(self, view: str) -> ir.Table:
        return self.once(f"texts_{view}", lambda: self.terminology.text_meanings(self._concepts(view)))

    def meanings(self, view: str) -> ir.Table:
        """Return what the known codings and texts of `view` mean (`mappers.terminology.meanings`)."""
        codes, texts = self._code_meanings(view), self._text_meanings(view)
        return self.once(f"meanings_{view}", lambda: meanings(self.known_codings(view), codes, texts))

    def ask(self, view: str, element: str, name: str) -> str:  # noqa: ARG002 - noted by `mappers.cohort.asked`
        """Return the name of the meanings by a value set or concept map. Whoever looks one up asks for it here."""
        return self.terminology.known(name)

    def _named(self, view: str, element: str, name: str) -> ir.Table:
        """Return what one element means by a value set or concept map."""
        known = self.ask(view, element, name)
        return self.meanings(view).filter(_["element"] == element, _["name"] == known)

    def coded(self, view: str, element: str, concept_map: str) -> ir.Table:
        """Return (site, id, part, value) of the parts of resources of `view` that `concept_map` understands.

        One value a part: of several codings the first in the order of the map, a text where no coding is understood.
        """
        return self._named(view, element, concept_map).filter(_["nth"] == 0).select(*PART, value=_["target"])

    def every_coded(self, view: str, element: str, concept_map: str) -> ir.Table:
        """Return (site, id, part, value) of all codings and texts that `concept_map` understands."""
        return self._named(view, element, concept_map).select(*PART, value=_["target"]).distinct()

    def member(self, view: str, element: str, value_set: str) -> ir.Table:
        """Return (site, id, part) of the parts of resources of `view` with a code or text of `value_set`.

        A concept map is taken for the set of what it understands.
        """
        return self._named(view, element, value_set).filter(_["nth"] == 0).select(*PART)


def attach(base: ir.Table, other: ir.Table, key: tuple[str, ...] = KEY) -> ir.Table:
    """Return `base` with the columns of `other` (at most one row a key), null where it has none."""
    joined = base.join(other, list(key), how="left", rname="{name}_right")
    return joined.drop(*[f"{name}_right" for name in key])


def attach_all(base: ir.Table, others: Sequence[ir.Table], key: tuple[str, ...] = KEY) -> ir.Table:
    """Return `base` with the columns of all `others`, as by `attach`, in one query, which is planned faster."""
    joined: ir.Table = base
    for place, other in enumerate(others):
        keys = {name: f"{name}_of_{place}" for name in key}
        right = other.rename({new: name for name, new in keys.items()})
        joined = joined.join(right, [base[name] == right[new] for name, new in keys.items()], how="left")
    return joined.drop(*[f"{name}_of_{place}" for place in range(len(others)) for name in key])


def only(base: ir.Table, other: ir.Table, key: tuple[str, ...] = KEY) -> ir.Table:
    """Return the rows of `base` whose key is in `other`."""
    return base.semi_join(other, list(key))


def first_by(table: ir.Table, *order: ir.Value, key: tuple[str, ...] = KEY) -> ir.Table:
    """Return one row a key: the first in `order`."""
    nth = ibis.row_number().over(ibis.window(group_by=list(key), order_by=list(order)))
    return table.mutate(nth_row=nth).filter(_["nth_row"] == 0).drop("nth_row")


def written_date(view: str, rows: ir.Table) -> ir.StringValue:
    """Return the date of a resource of `view` as written: the first of its date elements that has a value."""
    return ibis.coalesce(*[rows[column] for column in DATE_COLUMNS[view]])


def dated(sources: Sources, view: str, among: ir.Table | None = None) -> ir.Table:
    """Return usable rows of `view` with `date` and `dtf`, up to the cutoff; undated rows are left out.

    `among` has the resources (site, id) that matter: few of them are read faster than looked up among all.
    """
    rows = sources.resources(view)
    # the view's own date columns go first: AdverseEvent has one that is called `date` too
    names = [column for column in DATE_COLUMNS[view] if column != "start"]
    if among is None:
        days = sources.days(view).filter(_["date"] <= sources.cutoff)
        return rows.drop(*names).join(days.select(*RESOURCE, "date", "dtf"), list(RESOURCE))
    rows = only(rows, among, RESOURCE)
    written = written_date(view, rows)
    kept = rows.mutate(day_=dates.day(written), dtf=dates.flag(written)).drop(*names).rename(date="day_")
    return kept.filter(_["date"] <= sources.cutoff)

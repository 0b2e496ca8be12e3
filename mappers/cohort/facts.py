"""Clinical facts: what the views say of the candidates up to the data cutoff, one tidy table per kind of fact.

Every table has the key (site, patient), the `id` of its resource, and where it is dated `date` with the imputation
flag `dtf`. Rows that are refuted, entered in error, labelled as test data, undated or dated after the cutoff are not in
them; `quality` counts those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.study import Study
from mappers.terminology import Terminology

KEY = ("site", "patient")
RESOURCE = ("site", "id")

# FHIR R4 observation-status: preliminary, cancelled and entered-in-error results are not among them
USABLE_OBSERVATION = ("final", "amended", "corrected")
# A dose in progress, and one that was stopped, was given at least in part.
USABLE_DOSE = ("completed", "in-progress", "stopped")
# In order of preference: when it happened before when it was noticed or written down.
DATE_COLUMNS = {
    "condition": ("onset", "onset_start", "recorded"),
    "medication_administration": ("effective", "start"),
    "procedure": ("performed", "start"),
    "adverse_event": ("date", "detected", "recorded"),
    "observation": ("effective", "effective_start", "effective_instant"),
}
RESOURCE_TYPES = {
    "patient": "Patient",
    "condition": "Condition",
    "medication_administration": "MedicationAdministration",
    "procedure": "Procedure",
    "adverse_event": "AdverseEvent",
    "observation": "Observation",
}


@ibis.udf.scalar.builtin(name="periop_hmac")  # type: ignore[untyped-decorator]
def _hmac(message: str) -> str: ...  # type: ignore[empty-body]


@ibis.udf.scalar.builtin(name="periop_cutoff")  # type: ignore[untyped-decorator]
def _data_cutoff() -> date: ...  # type: ignore[empty-body]


def pseudonym(value: ir.Value) -> ir.StringValue:
    """Return the keyed HMAC-SHA-256 of an id, 32 hex digits; only the engine holds the key."""
    return _hmac(value).substr(0, 32)  # 128 bits: ids of one hospital do not collide


def subject_identifier(study: Study, site: ir.Value, patient: ir.Value) -> ir.StringValue:
    """Return USUBJID, unique across the sites of a study (ADaMIG 1.3, 3.2.1)."""
    return f"{study.id}-" + site + "-" + pseudonym(patient)


def yes_no(condition: ir.BooleanValue) -> ir.StringValue:
    """Return a flag of CDISC: Y, or N where the condition is false or null."""
    return condition.fill_null(False).ifelse("Y", "N")


def reference(view: str, identifier: ir.Value) -> ir.StringValue:
    """Return the source reference of a row, resource type and pseudonym of the id; null where there is no resource."""
    return identifier.isnull().ifelse(ibis.null("string"), f"{RESOURCE_TYPES[view]}/" + pseudonym(identifier))


def references(*columns: ir.Value) -> ir.ArrayValue:
    """Return several source references as one list, without nulls."""
    return ibis.array(list(columns)).filter(lambda item: item.notnull())


@dataclass(frozen=True)
class Sources:
    """The inputs of a cohort.

    `views` maps a view's name to its current rows (site, id and its columns but `key`). `keep` gives a table that is
    cheap to read several times; an engine materialises it, and the default leaves the expression as it is.

    Everything is derived per (site, patient), so `views` may hold the rows of some patients only; `everybody` then
    has the rows that belong to no patient, by view (without it they are looked for in `views`).
    """

    views: Mapping[str, ir.Table]
    terminology: Terminology
    study: Study
    keep: Callable[[str, ir.Table], ir.Table] = lambda _name, table: table
    everybody: Mapping[str, ir.Table] = field(default_factory=dict)
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
        return rows.filter(~rows["test_data"].fill_null(False)).drop("test_data")

    def unowned(self, view: str) -> ir.Table:
        """Return the rows of one view without a usable reference to a patient."""
        return self.everybody.get(view, self.views[view]).filter(_["patient"].isnull())

    def codings(self, view: str) -> ir.Table:
        """Return the codings of one kind of resource: site, id, element, system, code."""
        return self.views[f"{view}_coding"]

    def known_codings(self, view: str) -> ir.Table:
        """Return the codings that any value set or concept map knows: in a hospital, few of all."""
        known = self.terminology.all_codes()
        return self.once(f"known_{view}", lambda: self.codings(view).semi_join(known, ["system", "code"]))

    def coded(self, view: str, element: str, concept_map: str) -> ir.Table:
        """Return (site, id, value) of the resources of `view` that `concept_map` understands."""
        name = f"{view}_{element}_{concept_map}".replace("-", "_")
        return self.once(name, lambda: self.terminology.mapped(self.known_codings(view), element, concept_map))

    def member(self, view: str, element: str, value_set: str) -> ir.Table:
        """Return (site, id) of the resources of `view` with a code of `value_set`."""
        name = f"{view}_{element}_{value_set}".replace("-", "_")
        return self.once(name, lambda: self.terminology.member(self.known_codings(view), element, value_set))


def attach(base: ir.Table, other: ir.Table, key: tuple[str, ...] = KEY) -> ir.Table:
    """Return `base` with the columns of `other` (at most one row a key), null where it has none."""
    joined = base.join(other, list(key), how="left", rname="{name}_right")
    return joined.drop(*[f"{name}_right" for name in key])


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

    `among` has the resources (site, id) that matter: to read the dates of all takes long in a hospital.
    """
    rows = sources.resources(view)
    rows = rows if among is None else only(rows, among, RESOURCE)
    written = written_date(view, rows)
    # the view's own date columns go first: AdverseEvent has one that is called `date` too
    stamped = rows.mutate(day_=dates.day(written), dtf=dates.flag(written))
    kept = stamped.drop(*[column for column in DATE_COLUMNS[view] if column != "start"]).rename(date="day_")
    return kept.filter(_["date"] <= sources.cutoff)


def candidates(sources: Sources) -> ir.Table:
    """Return (site, patient) of the screened: all with a condition of value set `nsclc`, of whatever status."""
    return sources.once("candidates", lambda: _candidates(sources))


def _candidates(sources: Sources) -> ir.Table:
    conditions = sources.views["condition"].filter(_["patient"].notnull())
    return only(conditions, sources.member("condition", "code", "nsclc"), RESOURCE).select(*KEY).distinct()


def confirmed_conditions(sources: Sources) -> ir.Table:
    """Return the conditions that may be used: confirmed or without a status, and not dated after the cutoff.

    Refuted, entered-in-error and unconfirmed ones (with provisional and differential) are no diagnosis.
    """
    return sources.once("confirmed_conditions", lambda: _confirmed_conditions(sources))


def _confirmed_conditions(sources: Sources) -> ir.Table:
    rows = sources.resources("condition")
    written = written_date("condition", rows)
    rows = rows.mutate(date=dates.day(written), dtf=dates.flag(written))
    usable = (_["verification_status"] == "confirmed") | _["verification_status"].isnull()
    return rows.filter(usable, _["date"].isnull() | (_["date"] <= sources.cutoff)).select(*KEY, "id", "date", "dtf")


def doses(sources: Sources) -> ir.Table:
    """Return administrations of the study drug: `date` (first day) and `until` (last day, at most the cutoff).

    A running administration without an end lasts until the cutoff; a finished one without an end is one day.
    """
    return sources.once("doses", lambda: _doses(sources))


def _doses(sources: Sources) -> ir.Table:
    view = "medication_administration"
    rows = dated(sources, view, sources.member(view, "medication", sources.study.treatment.drug))
    running = (_["status"] == "in-progress") & _["end"].isnull()
    end = ibis.coalesce(dates.day(_["end"]), running.ifelse(sources.cutoff, _["date"]))
    rows = rows.filter(_["status"].isin(USABLE_DOSE)).mutate(until=end)
    # An end before the start is a mistake of the record: the dose was given on its first day.
    until = ibis.greatest(_["date"], ibis.least(_["until"], sources.cutoff))
    return rows.mutate(until=until).select(*KEY, "id", "date", "dtf", "until")


def resections(sources: Sources) -> ir.Table:
    """Return completed resections of lung: `value` is the type of surgery, `lobe` tells ICD-10-PCS lobes apart."""
    return sources.once("resections", lambda: _resections(sources))


def _resections(sources: Sources) -> ir.Table:
    rows = dated(sources, "procedure").filter(_["status"] == "completed")
    rows = rows.join(sources.coded("procedure", "code", "surgery-type"), list(RESOURCE))
    # ICD-10-PCS 0BT is resection in the respiratory system; the character after it is the body part, such as a lobe.
    pcs = sources.codings("procedure").filter(
        _["element"] == "code",
        _["system"] == "http://www.cms.gov/Medicare/Coding/ICD10",
        _["code"].startswith("0BT"),
    )
    lobes = pcs.group_by(*RESOURCE).agg(lobe=_["code"].substr(0, 4).min())
    return attach(rows, lobes, RESOURCE).select(*KEY, "id", "date", "dtf", "value", "lobe")


def observed(sources: Sources, among: ir.Table | None = None) -> ir.Table:
    """Return the candidates' usable observations up to the cutoff with their values: all, or those in `among`."""
    rows = dated(sources, "observation", among).filter(_["status"].isin(USABLE_OBSERVATION))
    return only(rows, candidates(sources)).drop("status")


def observations(sources: Sources) -> ir.Table:
    """Return those of `observed` with a coding that a value set or concept map knows."""
    return sources.once("observations", lambda: observed(sources, sources.known_codings("observation")))


def valued(sources: Sources, rows: ir.Table, concept_map: str, element: str = "value") -> ir.Table:
    """Return those of `rows` whose `element` has a meaning in `concept_map`; the meaning is `value`."""
    return rows.join(sources.coded("observation", element, concept_map), list(RESOURCE))


def asked(sources: Sources, rows: ir.Table, value_set: str, element: str = "code") -> ir.Table:
    """Return those of `rows` whose `element` (by default the code) is in `value_set`."""
    return only(rows, sources.member("observation", element, value_set), RESOURCE)


def recurrences(sources: Sources) -> ir.Table:
    """Return confirmed conditions that say recurrence or secondary cancer: `value` RECURRENCE."""
    rows = confirmed_conditions(sources).filter(_["date"].notnull())
    return rows.join(sources.coded("condition", "code", "recurrence-condition"), list(RESOURCE))

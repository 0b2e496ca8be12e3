"""Exposure to the study drug: doses, treatment periods and completed courses.

An oral drug is taken at home, so few hospitals record each dose. What a phase of treatment is derived from is chosen
per patient: administrations where there are any, else what the pharmacy dispensed, else what was stated. A request
alone is no exposure.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.facts import KEY, RESOURCE_TYPES, Sources, attach, dated
from mappers.cohort.issues import listed

# In order of preference: the more direct evidence of a dose first.
PREFERENCE = ("medication_administration", "medication_dispense", "medication_statement")
ADMINISTERED, DISPENSED, STATED = (RESOURCE_TYPES[view] for view in PREFERENCE)
# FHIR R4 medicationdispense-status: only "completed" says that the drug was handed over.
USABLE_DISPENSE = ("completed",)
# FHIR R4 medication-statement-status and, for servers that take the word from elsewhere, in-progress; a drug that is
# intended, on hold or not taken is no dose.
USABLE_STATEMENT = ("active", "completed", "stopped", "in-progress")
# UCUM and what pharmacies write for the same; without a unit, daysSupply is in days by its name.
_DAYS, _WEEKS = ("d", "day", "days", "{day}", "{days}"), ("wk", "week", "weeks")
# Countable units of an oral drug: UCUM annotations and v3-orderableDrugForm. A mass is none of them.
_COUNTED = ("1", "{capsule}", "{capsules}", "{tablet}", "{tablets}", "{tbl}", "CAP", "TAB")
LONGEST_SUPPLY = 366  # days: more in one dispense is a slip of the pen
PHASES = {1: "neoadjuvant", 2: "adjuvant"}

_DOSE = (
    *KEY,
    "id",
    "source",
    "date",
    "dtf",
    "until",
    "untilf",
    "seen",
    "seenf",
    "open",
    "asserted",
    "reversed",
    "unsupplied",
)


def doses(sources: Sources) -> ir.Table:
    """Return what says that the study drug was taken: `date` (first day) and `until` (last day, at most the cutoff).

    `source` is the resource type, `dtf` and `untilf` the flags of imputation, `seen` the last day on which the row
    shows the patient alive, and `open` says that no end was given.
    """
    return sources.once("doses", lambda: ibis.union(_administrations(sources), _dispenses(sources), _stated(sources)))


def _of_drug(sources: Sources, view: str) -> ir.Table:
    return dated(sources, view, sources.member(view, "medication", sources.study.treatment.drug))


def _lasting(sources: Sources, rows: ir.Table, source: str, running: ir.BooleanValue) -> ir.Table:
    """Return rows with a period as doses; a running one without an end lasts until the cutoff, another one day."""
    rows = rows.mutate(ended=dates.day(_["end"]), endf=dates.flag(_["end"]))
    open_ended = _["ended"].isnull()
    # An end before the start is a mistake of the record: the dose was given on its first day.
    reversed_ = dates.latest(_["ended"], _["endf"]) < dates.earliest(_["date"], _["dtf"])
    until = ibis.coalesce(_["ended"], (running & _["end"].isnull()).ifelse(sources.cutoff, _["date"]))
    rows = rows.mutate(
        source=ibis.literal(source),
        until=ibis.greatest(_["date"], ibis.least(until, sources.cutoff)),
        untilf=(_["ended"].notnull() & (_["ended"] <= sources.cutoff)).ifelse(_["endf"], ibis.null("string")),
        open=open_ended,
        reversed=reversed_.fill_null(False),
        unsupplied=ibis.literal(value=False),
    )
    rows = rows.mutate(untilf=(_["until"] == _["date"]).ifelse(_["dtf"], _["untilf"]))
    # A record of a running administration is kept up to date by whoever gives it; a statement shows what it dates.
    # So a statement without an end shows the patient alive on its first day only.
    if source == STATED:
        return rows.mutate(
            seen=_["open"].ifelse(_["date"], _["until"]), seenf=_["open"].ifelse(_["dtf"], _["untilf"])
        ).select(*_DOSE)
    return rows.mutate(seen=_["until"], seenf=_["untilf"]).select(*_DOSE)


def _administrations(sources: Sources) -> ir.Table:
    rows = _of_drug(sources, "medication_administration").filter(_["status"].isin(facts.USABLE_DOSE))
    rows = rows.mutate(asserted=ibis.null("date"))
    return _lasting(sources, rows, ADMINISTERED, running=_["status"] == "in-progress")


def _stated(sources: Sources) -> ir.Table:
    rows = _of_drug(sources, "medication_statement").filter(_["status"].isin(USABLE_STATEMENT))
    rows = rows.mutate(asserted=dates.day(_["asserted"]))
    # Only of a period is the end open; a single time is one day.
    running = _["status"].isin(["active", "in-progress"]) & _["start"].notnull()
    return _lasting(sources, rows, STATED, running)


def _dispenses(sources: Sources) -> ir.Table:
    """Return dispenses with the days that they supply: daysSupply, else quantity by the study's units a day."""
    rows = _of_drug(sources, "medication_dispense").filter(_["status"].isin(USABLE_DISPENSE))
    unit = _["days_supply_unit"].fill_null("d").lower()
    given = _["days_supply"].cast("float64") * ibis.cases((unit.isin(_DAYS), 1.0), (unit.isin(_WEEKS), 7.0), else_=None)
    daily = sources.study.treatment.daily_units
    counted = _["quantity_unit"].fill_null("1").isin(_COUNTED)
    by_quantity = ibis.null("float64") if daily is None else _["quantity"].cast("float64") / daily
    supply = ibis.coalesce(given, counted.ifelse(by_quantity, ibis.null("float64")))
    supply = supply.between(1, LONGEST_SUPPLY).ifelse(supply.floor(), ibis.null("float64")).cast("int64")
    rows = rows.mutate(supply=supply)
    # A dispense shows the patient alive on its day only, and a supply that is not known is one of a day.
    until = dates.plus_days(_["date"], _["supply"].fill_null(1) - 1)
    return rows.mutate(
        source=ibis.literal(DISPENSED),
        until=ibis.least(until, sources.cutoff),
        untilf=_["dtf"],
        seen=_["date"],
        seenf=_["dtf"],
        open=ibis.literal(value=False),
        asserted=ibis.null("date"),
        reversed=ibis.literal(value=False),
        unsupplied=_["supply"].isnull(),
    ).select(*_DOSE)


def phased(sources: Sources, surgery: ir.Table) -> ir.Table:
    """Return the doses by `phase`, 1 up to the day of surgery and 2 after it; `used` is true of the preferred source.

    `surgery` has SURGDT. A dose on a partial date that may lie on either side of surgery is of no phase (null), and a
    statement that spans surgery is one dose before and one after it.
    """
    rows = attach(doses(sources), surgery.select(*KEY, "SURGDT"))
    operated = _["SURGDT"].notnull()
    first, last = dates.earliest(_["date"], _["dtf"]), dates.latest(_["date"], _["dtf"])
    unclear = operated & _["dtf"].notnull() & (first <= _["SURGDT"]) & (last > _["SURGDT"])
    after = operated & (_["date"] > _["SURGDT"])
    null = ibis.null("int32")
    rows = rows.mutate(phase=ibis.cases((unclear, null), (after, 2), else_=1).cast("int32"))
    # Who stated before surgery that the drug is taken, without an end, did not speak of the time after it.
    foreseen = _["open"] & (_["asserted"] <= _["SURGDT"]).fill_null(False)
    spanning = (_["source"] == STATED) & (_["phase"] == 1) & (_["until"] > _["SURGDT"]) & ~foreseen
    rows = rows.mutate(spanning=operated & spanning.fill_null(False))
    later = rows.filter(_["spanning"]).mutate(
        date=dates.plus_days(_["SURGDT"], ibis.literal(1)),
        dtf=ibis.null("string"),
        phase=ibis.literal(2, type="int32"),
        spanning=ibis.literal(value=False),
    )
    rows = ibis.union(rows, later.select(*rows.columns))
    rank = _["source"].cases(*[(RESOURCE_TYPES[view], place) for place, view in enumerate(PREFERENCE)], else_=9)
    rows = rows.mutate(rank=rank)
    best = _["rank"].min().over(ibis.window(group_by=[*KEY, "phase"]))
    return rows.mutate(used=_["phase"].notnull() & (_["rank"] == best))


def first_day(sources: Sources) -> ir.Table:
    """Return `origin`, the first day of any dose of whatever source: no resection before it is the one of the study."""
    return doses(sources).group_by(*KEY).agg(origin=_["date"].min())


def time_zero(course: ir.Table) -> ir.Table:
    """Return TRTSDT, its flag and the first dose of a `course` (`phased`).

    A partial date that may lie before or after the first exact one is not taken for the first dose.
    """
    rows = course.filter(_["used"])
    exact = _["date"].min(where=_["dtf"].isnull()).over(ibis.window(group_by=list(KEY)))
    rows = rows.mutate(exact=exact)
    rows = rows.filter(_["dtf"].isnull() | _["exact"].isnull() | (dates.latest(_["date"], _["dtf"]) < _["exact"]))
    first = facts.first_by(rows, _["date"], _["dtf"].asc(nulls_first=True), _["until"].desc(), _["id"])
    return first.select(*KEY, TRTSDT=_["date"], TRTSDTF=_["dtf"], dose_id=_["id"], dose_type=_["source"])


def _supplied(rows: ir.Table, cutoff: ir.DateValue) -> ir.Table:
    """Return dispenses of one phase with their `until` moved on by what was left of the supply before.

    A refill is fetched before the last capsule is taken. The last day of the i-th dispense is the maximum, over all
    j up to i, of the day before dispense j plus the supply of j to i.
    """
    window = {"group_by": [*KEY, "phase"], "order_by": ["date", "until", "id"]}
    running = ibis.cumulative_window(**window)
    rows = rows.mutate(supply=dates.days_between(_["date"], _["until"]) + 1)
    rows = rows.mutate(total=_["supply"].sum().over(running))
    begun = _["date"].min().over(ibis.window(group_by=[*KEY, "phase"]))
    slack = dates.days_between(begun, _["date"]) - (_["total"] - _["supply"])
    rows = rows.mutate(begun=begun, slack=slack)
    rows = rows.mutate(idle=_["slack"].max().over(running))
    until = dates.plus_days(_["begun"], _["total"] + _["idle"] - 1)
    return rows.mutate(until=ibis.least(until, cutoff)).drop("supply", "total", "begun", "slack", "idle")


def _exposure(rows: ir.Table, merge_gap: int, prefix: str) -> ir.Table:
    """Return first day, last day and days of exposure per patient; gaps of up to `merge_gap` days are exposure."""
    running = ibis.cumulative_window(group_by=list(KEY), order_by=["date", "until", "id"])
    ordered = ibis.window(group_by=list(KEY), order_by=["date", "until", "id"])
    # How far the doses before reach, not only the last one: a long infusion may outlast those that begin later.
    rows = rows.mutate(reached=_["until"].max().over(running))
    rows = rows.mutate(reached=_["reached"].lag().over(ordered))
    # From the last day of one dose to the first of the next there are (difference - 1) days without any.
    new = _["reached"].isnull() | (dates.days_between(_["reached"], _["date"]) > merge_gap + 1)
    rows = rows.mutate(new=new.ifelse(1, 0))
    rows = rows.mutate(episode=_["new"].sum().over(running))
    spans = rows.group_by(*KEY, "episode").agg(start=_["date"].min(), end=_["until"].max(), source=_["source"].min())
    spans = spans.mutate(length=dates.days_between(_["start"], _["end"]) + 1)
    table = spans.group_by(*KEY).agg(
        **{
            f"{prefix}SDT": _["start"].min(),
            f"{prefix}EDT": _["end"].max(),
            f"{prefix}EXSRC": _["source"].min(),
            f"{prefix}_days": _["length"].sum(),
        }
    )
    ends = attach(rows, table)
    # A day that is written somewhere is not imputed, whatever partial date falls on it as well.
    flags = ends.group_by(*KEY).agg(
        **{
            f"{prefix}SDTF": _flag(_["dtf"], _["date"] == _[f"{prefix}SDT"]),
            f"{prefix}EDTF": _flag(_["untilf"], _["until"] == _[f"{prefix}EDT"]),
        }
    )
    return attach(table, flags)


def _flag(flag: ir.Value, there: ir.Value) -> ir.Value:
    """Return the flag of a day to which several rows lead: none where one of them has none."""
    return (flag.isnull() & there).any().ifelse(ibis.null("string"), flag.max(where=there))


def periods(sources: Sources, course: ir.Table, treatment: ir.Table, deaths: ir.Table) -> ir.Table:
    """Return neoadjuvant (AP01) and adjuvant (AP02) exposure of a `course` (`phased`), and completion flags.

    Exposure before surgery ends on the day before it at the latest, whatever the record of a long course says or a
    dispense would still supply; what was left at surgery is not carried over. `deaths` has the exact day `died`, with
    which exposure ends too.
    """
    rule = sources.study.treatment
    rows = attach(course.filter(_["used"]), treatment.select(*KEY, "TRTSDT"))
    # A dose on a partial date is not before time 0, which an exact date has set.
    rows = rows.mutate(date=ibis.greatest(_["date"], _["TRTSDT"]), until=ibis.greatest(_["until"], _["TRTSDT"]))
    pharmacy = rows["source"] == DISPENSED
    rows = ibis.union(rows.filter(~pharmacy), _supplied(rows.filter(pharmacy), sources.cutoff).select(*rows.columns))
    rows = attach(rows, deaths)
    rows = rows.mutate(until=(_["died"] >= _["date"]).ifelse(ibis.least(_["until"], _["died"]), _["until"]))
    neo = _exposure(rows.filter(_["phase"] == 1), rule.merge_gap_days, "AP01")
    adjuvant = _exposure(rows.filter(_["phase"] == 2), rule.merge_gap_days, "AP02")
    table = attach(attach(treatment.select(*KEY), neo), adjuvant)
    return table.mutate(
        NEOCMPFL=facts.yes_no(_["AP01_days"] >= rule.neoadjuvant_cycles * rule.cycle_days),
        ADJCMPFL=facts.yes_no(_["AP02_days"] >= rule.adjuvant_cycles * rule.cycle_days),
    ).drop("AP01_days", "AP02_days")


def first_adjuvant_dose(course: ir.Table) -> ir.Table:
    """Return the first dose after surgery of a `course` (`phased`) as `adjuvant_id` and `adjuvant_type`."""
    rows = course.filter(_["used"], _["phase"] == 2)
    first = facts.first_by(rows, _["date"], _["until"].desc(), _["id"])
    return first.select(*KEY, adjuvant_id=_["id"], adjuvant_type=_["source"])


def issues(course: ir.Table, subjects: ir.Table) -> list[ir.Table]:
    """Return what was assumed of the doses of a `course` (`phased`): the source chosen, and what could not be used."""
    unused = ~_["used"] & _["phase"].notnull()
    reaching = (_["source"] == DISPENSED) & (_["phase"] == 1) & (_["until"] >= _["SURGDT"]).fill_null(False)
    counted = {
        ("ADSL", "dose on a partial date, before or after surgery: in neither phase"): _["phase"].isnull(),
        (DISPENSED, "no days of supply that can be read: one day of exposure"): _["unsupplied"],
        (DISPENSED, "supply reaches beyond surgery: not carried over"): reaching & _["used"],
        (STATED, "spans surgery: split at its day"): _["spanning"] & _["used"],
    }
    for view in PREFERENCE[1:]:
        name = RESOURCE_TYPES[view]
        counted[name, "not used beside a more direct record of the same phase"] = unused & (_["source"] == name)
    for name in (ADMINISTERED, STATED):
        counted[name, "conflict: end before start, one day of exposure"] = _["reversed"] & (_["source"] == name)
    names = {issue: f"n{place}" for place, issue in enumerate(counted)}
    summed = course.group_by(*KEY).agg(**{names[issue]: met.cast("int64").sum() for issue, met in counted.items()})
    chosen = {
        ("ADSL", f"{what} exposure from {name}"): subjects[f"AP0{phase}EXSRC"] == name
        for phase, what in PHASES.items()
        for name in (DISPENSED, STATED)
    }
    return [listed(summed, {issue: summed[name] for issue, name in names.items()}), listed(subjects, chosen)]

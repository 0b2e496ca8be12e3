"""Which quantities are tied to each other by what they mean, so that their counts can be subtracted.

A responder was resected, a death is an event, T and N make the stage: these a reader knows. That no
patient with constipation had a complete response may hold in the data, but no reader knows it. Families
name what is tied; a quantity that is not listed is taken to be tied to everything. Deaths and events are
a family within the course of the disease, since an event is a progression or a death.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mappers.study import ProportionSpec, QuantileSpec, Where

Families = frozenset[str]
UNKNOWN: Families = frozenset()
COURSE: Families = frozenset({"course"})
EVENTS: Families = frozenset({"course", "events"})
_COURSE = """
    SURGFL SURGTYPE SURGDT NOSURGRS NEOCMPFL ADJSAFFL ADJCMPFL TRTSDT TRTEDT AP01SDT AP02SDT LSTALVDT
    MPR PCR R0 PVTPCT BOR TTSURG TTADJ
"""
# By column of ADSL or PARAMCD of ADRS and ADTTE.
FAMILIES: Mapping[str, Families] = {
    "SEX": frozenset({"sex"}),
    "AGE": frozenset({"age"}),
    "SMKSTAT": frozenset({"smoking"}),
    "ECOGBL": frozenset({"ecog"}),
    "STAGEBL": frozenset({"stage"}),
    "TSTGBL": frozenset({"stage"}),
    "NSTGBL": frozenset({"stage"}),
    "RSP": frozenset({"imaging"}),
    "NDOWN": frozenset({"course", "stage"}),
    **dict.fromkeys(_COURSE.split(), COURSE),
    **dict.fromkeys(("DTHFL", "DTHDT", "EFS", "OS", "DFS"), EVENTS),
}


def tied(first: Families, second: Families) -> bool:
    """Whether counts of the two may be subtracted by who knows the study."""
    return not first or not second or not first.isdisjoint(second)


def of_names(names: Iterable[str]) -> Families:
    """The families of several columns or parameters together; unknown if one is."""
    found = [FAMILIES.get(name, UNKNOWN) for name in names]
    return frozenset[str]().union(*found) if found and all(found) else UNKNOWN


def of_proportion(spec: ProportionSpec) -> Families:
    """The families of a proportion: by its columns (ADSL), parameter (ADRS, ADTTE) or phase (ADAE)."""
    if spec.dataset == "adsl":
        return of_names(where.column for where in spec.where)
    if spec.dataset == "adae":
        return _of_events(spec.where)
    return of_names(_values(spec.where, "PARAMCD"))


def of_quantile(spec: QuantileSpec) -> Families:
    """The families of the number of patients who have a value: not an event, even where the value is a
    time."""
    found = of_names(name for name in (spec.variable, spec.start, spec.end, spec.paramcd) if name)
    return COURSE if found == EVENTS else found


def _values(wheres: Iterable[Where], column: str) -> list[str]:
    return [str(value) for where in wheres if where.column == column for value in where.is_in]


def _of_events(wheres: tuple[Where, ...]) -> Families:
    """Events of one phase are tied to each other, those of grade 5 also to the deaths."""
    phases = _values(wheres, "APERIODC")
    grades = [where for where in wheres if where.column == "ATOXGRN"]
    fatal = any(where.minimum == 5 or set(where.is_in) == {5} for where in grades)
    found = frozenset(f"safety {phase}" for phase in phases)
    return found | EVENTS if found and fatal else found

"""Which variables are linked by what they mean, so that a reader can subtract their counts.

A responder was resected, a death is an event, T and N make the stage: these a reader knows. That no
patient with constipation had a complete response may hold in the data, but no reader knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mappers.study import ProportionSpec, QuantileSpec, Where

VariableGroups = frozenset[str]
# Linked to everything: the safe assumption for a variable that is not listed here.
UNKNOWN: VariableGroups = frozenset()
COURSE: VariableGroups = frozenset({"course"})
# Within the course of the disease, since an event is a progression or a death.
EVENTS: VariableGroups = frozenset({"course", "events"})
_COURSE = """
    SURGFL SURGTYPE SURGDT NOSURGRS NEOCMPFL ADJSAFFL ADJCMPFL TRTSDT TRTEDT AP01SDT AP02SDT LSTALVDT
    MPR PCR R0 PVTPCT BOR TTSURG TTADJ
"""
# By column of ADSL or PARAMCD of ADRS and ADTTE.
VARIABLE_GROUPS: Mapping[str, VariableGroups] = {
    "SEX": frozenset({"sex"}),
    "AGE": frozenset({"age"}),
    "SMKSTAT": frozenset({"smoking"}),
    "ECOGBL": frozenset({"ecog"}),
    "STAGEBL": frozenset({"stage"}),
    "TSTGBL": frozenset({"stage"}),
    "NSTGBL": frozenset({"stage"}),
    "RSP": frozenset({"imaging"}),
    # Pathological N is known of the resected only, and is compared with the clinical N of the stage.
    "NDOWN": frozenset({"course", "stage"}),
    **dict.fromkeys(_COURSE.split(), COURSE),
    **dict.fromkeys(("DTHFL", "DTHDT", "EFS", "OS", "DFS"), EVENTS),
}


def belongs(groups: VariableGroups, name: str) -> bool:
    """Return whether a count of `groups` is linked to the variables of group `name`.

    A group "safety ADJUVANT/Neutropenia" is part of "safety ADJUVANT": the figures of all terms of a phase are
    linked to those of each, while those of two terms are not linked to each other.
    """
    return not groups or any(name == group or name.startswith(f"{group}/") for group in groups)


def of_names(names: Iterable[str]) -> VariableGroups:
    """Return the groups of several columns or parameters together; unknown if one is."""
    found = [VARIABLE_GROUPS.get(name, UNKNOWN) for name in names]
    return frozenset[str]().union(*found) if found and all(found) else UNKNOWN


def of_proportion(spec: ProportionSpec) -> VariableGroups:
    """Return the groups of a proportion: by its columns (ADSL), parameter (ADRS, ADTTE) or phase and term (ADAE)."""
    if spec.dataset == "adsl":
        return of_names(where.column for where in spec.where)
    if spec.dataset != "adae":
        return of_names(_values(spec.where, "PARAMCD"))
    # A fatal event (grade 5) is linked to the deaths too.
    grades = [where for where in spec.where if where.column == "ATOXGRN"]
    fatal = any(where.minimum == 5 or set(where.is_in) == {5} for where in grades)
    terms = _values(spec.where, "AEDECOD") or [""]
    phases = _values(spec.where, "APERIODC")
    found = frozenset(f"safety {phase}/{term}".rstrip("/") for phase in phases for term in terms)
    return found | EVENTS if found and fatal else found


def of_quantile(spec: QuantileSpec) -> VariableGroups:
    """Return the groups of the number of patients who have a value."""
    found = of_names(name for name in (spec.variable, spec.start, spec.end, spec.paramcd) if name)
    # The number who have a time to an event says nothing of how many had the event.
    return COURSE if found == EVENTS else found


def _values(wheres: Iterable[Where], column: str) -> list[str]:
    return [str(value) for where in wheres if where.column == column for value in where.is_in]

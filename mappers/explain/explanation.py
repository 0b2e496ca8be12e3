"""The explanation of the variables of one patient, from the cohort tables and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from mappers.cohort.evidence import Bound, Evidence
from mappers.cohort.variables import COLUMNS, OF_PARAMETERS, VARIABLES, Table, Variable
from mappers.explain.evidence import PatientEvidence, Resource
from mappers.study import Study

FLAGGED = {"D": "the day is imputed", "M": "month and day are imputed"}
ONE_ROW_A_RESOURCE = ("PVTPCT", "OVR")  # parameters with a row for each reading or assessment
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Use:
    """A resource that was used, or considered and not used for a `reason`."""

    type: str
    id: str
    version: str | None
    elements: tuple[str, ...]
    date: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Explanation:
    """The reasons for the value of one variable.

    Attributes:
        row: what tells rows of one table apart: the parameter, or the adverse event.
        numbers: the rules of docs/endpoint-rules.md.
        parameters: settings of the study.
        inputs: other variables that it is derived from, with their values.
    """

    table: str
    variable: str
    row: str | None
    value: Any
    rule: str
    numbers: tuple[int, ...]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]
    used: tuple[Use, ...]
    considered: tuple[Use, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Explainer:
    """Explains the variables of one patient.

    Attributes:
        tables: the rows of the patient by table; of ADSL one.
        pseudonym: gives the pseudonym of the id of a resource, by which SRCREF names it.
    """

    study: Study
    cutoff: date
    tables: Mapping[Table, Sequence[Row]]
    evidence: PatientEvidence
    pseudonym: Callable[[str], str]

    def explain(self, wanted: str | None = None) -> Iterator[Explanation]:
        """Yield the explanations of all variables, or of those of the name `wanted`: a column or a parameter."""
        for table, rows in self.tables.items():
            for row in rows:
                for column in COLUMNS[table]:
                    if wanted is None or wanted in self._names(table, row, column):
                        yield self._explained(table, row, column)

    def _names(self, table: Table, row: Row, column: str) -> set[str]:
        """Return the names by which a person may ask for a column of a row."""
        parameter = row.get("PARAMCD")
        names = {column, f"{table}.{column}"}
        return names | ({parameter, f"{table}.{parameter}", f"{parameter}.{column}"} if parameter else set())

    def _explained(self, table: Table, row: Row, column: str) -> Explanation:
        variable = VARIABLES[table][column]
        parameter = OF_PARAMETERS[table][row["PARAMCD"]] if table in OF_PARAMETERS else None
        parts = [variable] if parameter is None else [variable, parameter]
        if column in ("STUDYID", "USUBJID", "SITEID", "DCUTDT", "PARAMCD", "PARAM"):
            parts = [variable]  # the same whatever the resources say
        evidence = tuple(one.of(self.study) for each in parts for one in each.evidence)
        settings = dict.fromkeys(name for each in parts for name in each.settings)
        used, considered = self._uses(table, row, column, evidence, parts[-1])
        return Explanation(
            table=table,
            variable=column,
            row=_label(table, row),
            value=plain(row[column]),
            rule="; ".join(each.rule for each in parts),
            numbers=tuple(sorted({number for each in parts for number in each.numbers})),
            parameters={name: setting(self.study, name) for name in settings},
            inputs=self._inputs(row, parts),
            used=used,
            considered=considered,
            assumptions=tuple(self._assumptions(row, variable, used)),
        )

    def _inputs(self, row: Row, parts: Sequence[Variable]) -> dict[str, Any]:
        known = {name: value for subject in self.tables["ADSL"] for name, value in subject.items()}
        known |= {each["PARAMCD"]: each["AVALC"] for each in self.tables.get("ADRS", ()) if each["ANL01FL"] == "Y"}
        known |= row
        return {name: plain(known.get(name)) for each in parts for name in each.of}

    def _uses(
        self, table: Table, row: Row, column: str, evidence: Sequence[Evidence], variable: Variable
    ) -> tuple[tuple[Use, ...], tuple[Use, ...]]:
        """Return the resources that were used for a variable, and those that were considered and not used."""
        # SRCREF comes first: it was written by the rule itself.
        chosen = self._referenced(table, row, column)
        able: dict[tuple[str, str], Use] = {}
        unable: dict[tuple[str, str], Use] = {}
        against: dict[tuple[str, str], Use] = {}
        for one in evidence:
            for resource in self.evidence.considered(one):
                reason = self._reason(one, resource)
                key = (resource.type, resource.id)
                use = _use(resource, one.elements, reason)
                if one.against is not None:
                    against[key] = use
                elif reason is None:
                    able.setdefault(key, use)
                else:
                    unable.setdefault(key, use)
        # What speaks against a diagnosis is not evidence for it, although its code is one of the value set.
        able = {key: use for key, use in able.items() if key not in against}
        unable |= against
        if not chosen and variable.choice == "" and table != "ADAE":
            chosen = set(able)  # all that can be used are used
        elif not chosen and isinstance(row[column], date):
            chosen = {key for key, use in able.items() if (use.date or "").startswith(row[column].isoformat())}
        # What SRCREF names was used, also where the table of variables knows no evidence of it.
        named_only = {(each.type, each.id): _use(each, (), None) for each in self.evidence.resources.values()}
        used = [able.get(key) or named_only[key] for key in sorted(chosen) if key in named_only]
        why = f"not chosen: {variable.choice or 'it is the source of another row'}"
        others = [Use(**{**vars(use), "reason": why}) for key, use in able.items() if key not in chosen]
        left = [use for key, use in unable.items() if key not in chosen and key not in able]
        if table == "ADAE":  # the other events have rows of their own
            others, left = [], []
        return tuple(used), (*others, *left)

    def _referenced(self, table: Table, row: Row, column: str) -> set[tuple[str, str]]:
        """Return (type, id) of the resources that SRCREF names for a column; of a parameter's other columns all."""
        items = [item.rpartition(" ")[::2] for item in row["SRCREF"] if item]
        supported = {variable for variables, _ in items for variable in variables.split()}
        wanted = {reference for variables, reference in items if column in variables.split()}
        if table != "ADSL" and column not in supported:
            wanted = {reference for _, reference in items}
        by_pseudonym = {
            f"{each.type}/{self.pseudonym(each.id)}": (each.type, each.id) for each in self.evidence.resources.values()
        }
        return {by_pseudonym[reference] for reference in wanted if reference in by_pseudonym}

    def _reason(self, evidence: Evidence, resource: Resource) -> str | None:
        """Return why a resource cannot be used; None where it can."""
        # In the order of the rules: what forbids every use, then what forbids this one.
        if resource.labelled:
            return "labelled as test data"
        if resource.unused is not None:
            return resource.unused
        if resource.view != "patient" and resource.day is None:
            if resource.written is not None:
                return "date not readable"
            # A diagnosis counts without a date, unless it must lie somewhere in time.
            if resource.view != "condition" or evidence.bounds:
                return "no date"
        if resource.day is not None and resource.day > self.cutoff:
            return "dated after the data cutoff"
        missed = next((bound.missed for bound in evidence.bounds if self._missed(bound, resource)), None)
        if missed is not None:
            return missed
        preferred = self._subject().get(evidence.source) if evidence.source else None
        if preferred not in (None, resource.type):
            return f"{preferred} is the more direct record of this phase"
        if evidence.answer is not None and not self.evidence.has(resource, *evidence.answer):
            return "it has no value that counts here"
        return evidence.against

    def _missed(self, bound: Bound, resource: Resource) -> bool:
        """Return whether a resource lies beyond a limit; one that lasts does where all of its time does."""
        limit = self._subject().get(bound.column)
        day = resource.day
        if resource.lasting and bound.order in (">", ">="):
            day = resource.until
        if limit is None or day is None:
            return False
        within = {"<": day < limit, "<=": day <= limit, ">": day > limit, ">=": day >= limit}
        return not within[bound.order]

    def _subject(self) -> Row:
        return self.tables["ADSL"][0] if self.tables["ADSL"] else {}

    def _assumptions(self, row: Row, variable: Variable, used: Sequence[Use]) -> Iterator[str]:
        flag = row.get(variable.flag) if variable.flag else None
        if flag is not None:
            yield f"{FLAGGED.get(flag, flag)} ({variable.flag} {flag})"
        if row.get("DTYPE") == "NONRESP":
            yield "not operated, not assessed or not evaluable, and counted as N (DTYPE NONRESP)"
        by_id = {(each.type, each.id): each for each in self.evidence.resources.values()}
        for use in used:
            resource = by_id[use.type, use.id]
            if resource.flag is not None:
                became = f"{resource.written} became {resource.day}"
                yield f"{use.type}/{use.id}: {FLAGGED.get(resource.flag, resource.flag)}, {became}"


def _use(resource: Resource, elements: tuple[str, ...], reason: str | None) -> Use:
    return Use(resource.type, resource.id, resource.version, elements, resource.written, reason)


def _label(table: Table, row: Row) -> str | None:
    if table == "ADAE":
        return f"{row['AEDECOD'] or row['AETERM']} {plain(row['ASTDT'])}"
    parameter = row.get("PARAMCD")
    return f"{parameter} {plain(row['ADT'])}" if parameter in ONE_ROW_A_RESOURCE else parameter


def setting(study: Study, name: str) -> Any:
    """Return a setting of the study by its dotted name, as plain data."""
    value: Any = study
    for part in name.split("."):
        value = getattr(value, part)
    return plain(value)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value

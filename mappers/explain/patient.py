"""One patient found and explained: who it is, why enrolled or not, each variable, and what the quality list says."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pyarrow.parquet as pq
from ibis import _

from mappers.build.cohort import data_cutoffs
from mappers.build.cohort_folder import CohortFolder
from mappers.build.opened import OpenedLake
from mappers.cohort import Sources
from mappers.cohort.facts import RESOURCE_TYPES, pseudonym, subject_identifier
from mappers.cohort.patients import owners
from mappers.cohort.variables import CRITERIA, Table
from mappers.errors import MappingError
from mappers.explain.evidence import PatientEvidence, read_evidence
from mappers.explain.explanation import Explainer, Explanation, Use, plain, setting
from mappers.study import Study

TABLES: tuple[Table, ...] = ("ADSL", "ADRS", "ADTTE", "ADAE")
NOT_SCREENED = "NOT SCREENED"


@dataclass(frozen=True)
class Person:
    """A patient of the lake: `patient` is the id of the canonical record."""

    site: str
    patient: str
    usubjid: str


@dataclass(frozen=True)
class Criterion:
    """A criterion of enrolment with the value that decides; `met` is None where an earlier one was failed."""

    criterion: str
    variable: str
    value: Any
    met: bool | None


@dataclass(frozen=True)
class PatientExplanation:
    """All that is to say of one patient.

    Attributes:
        records: the ids of the Patient records that are one person.
        reason: SCRFRS of who is not enrolled, or `NOT_SCREENED`.
        told: the issues of the quality list about the patient, with their counts.
        stale: lake or rules are newer than the cohort tables.
    """

    person: Person
    records: tuple[str, ...]
    cutoff: date
    enrolled: bool
    reason: str | None
    criteria: tuple[Criterion, ...]
    explanations: tuple[Explanation, ...]
    told: tuple[tuple[str, str, int], ...]
    stale: bool


def find_person(lake: OpenedLake, wanted: str, site: str | None, *, by_id: bool) -> Person:
    """Return the patient with the pseudonym (USUBJID or SUBJID) `wanted`, or with this id (`by_id`).

    Raises:
        MappingError: there is none, or several sites have one.
    """
    rows_of = lake.everybody()
    # Not the view of patients: who has resources and no record is a patient too.
    people = ibis.union(*(owners(rows_of[view]) for view in RESOURCE_TYPES), distinct=True)
    if by_id:
        named = rows_of["patient"].filter(_["id"] == wanted)
        rows = ibis.union(people.filter(_["patient"] == wanted), named.select("site", "patient"), distinct=True)
    else:
        rows = people.mutate(SUBJID=pseudonym(_["patient"]))
        rows = rows.filter(_["SUBJID"] == wanted.rpartition("-")[2]).drop("SUBJID")
    study = lake.config.study
    rows = rows.mutate(usubjid=subject_identifier(study, _["site"], _["patient"]))
    found = [Person(**row) for row in lake.engine.arrow(lake.engine.compile(rows)).to_pylist()]
    whole = not by_id and "-" in wanted  # USUBJID, which names the study and the site too
    found = [each for each in found if site in (None, each.site) and (each.usubjid == wanted or not whole)]
    if not found:
        what = "id" if by_id else "pseudonym"
        raise MappingError(f"no patient of the lake has this {what}; USUBJID and SUBJID are in adsl.parquet")
    if len(found) > 1:
        sites = ", ".join(sorted(each.site for each in found))
        raise MappingError(f"several sites have such a patient: {sites}; name one with --site")
    return found[0]


def explain_patient(
    lake: OpenedLake, person: Person, key: bytes, cut: str | None, wanted: str | None
) -> PatientExplanation:
    """Return the explanation of a patient at the data cutoff of the id `cut` (None: the main one).

    `wanted` is a variable, else all are explained; `key` is that of the pseudonyms.

    Raises:
        MappingError: the study has no such cutoff, no cohort tables are there, or no row has this variable.
    """
    cutoffs = {cutoff.id: cutoff.day for cutoff in data_cutoffs(lake.config.study)}
    if cut not in cutoffs:
        raise MappingError(
            f"the study has no data cutoff named {cut}; it has {', '.join(name for name in cutoffs if name)}"
        )
    folder = CohortFolder(lake.config.cohort_dir)
    state = folder.state()
    if state is None:
        raise MappingError(f"{folder.path}: holds no cohort tables; run `periop map`")
    # From here on only this patient is read.
    sources = lake.one_patient(person.site, person.patient)
    evidence = read_evidence(lake, sources)
    tables = {table: _rows(folder.file(cut, table.lower()), person.usubjid) for table in TABLES}
    explainer = Explainer(
        lake.config.study,
        cutoffs[cut],
        tables,
        evidence,
        lambda identifier: hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:32],
    )
    subject = tables["ADSL"][0] if tables["ADSL"] else None
    explanations = tuple(explainer.explain(wanted)) if subject else (_unscreened(evidence),)
    if not explanations:
        raise MappingError(f"no row of this patient has a variable {wanted}; docs/cohort-tables.md lists all")
    told = _rows(folder.file(cut, "quality"), person.usubjid)
    return PatientExplanation(
        person=person,
        records=_records(lake, sources),
        cutoff=cutoffs[cut],
        enrolled=subject is not None and subject["ITTFL"] == "Y",
        reason=subject["SCRFRS"] if subject else NOT_SCREENED,
        criteria=tuple(_criteria(lake.config.study, subject)) if subject else (),
        explanations=explanations,
        told=tuple((row["DOMAIN"], row["ISSUE"], row["COUNT"]) for row in told),
        stale=state != lake.state,
    )


def _rows(file: Path, usubjid: str) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file, filters=[("USUBJID", "=", usubjid)]).to_pylist()
    return rows


def _records(lake: OpenedLake, sources: Sources) -> tuple[str, ...]:
    rows = lake.engine.arrow(lake.engine.compile(sources.views["patient"].select("id").distinct()))
    return tuple(sorted(rows["id"].to_pylist()))


def _criteria(study: Study, subject: dict[str, Any]) -> list[Criterion]:
    reason = subject["SCRFRS"]
    found, met = [], True
    if reason is not None and not any(reason.startswith(criterion) for criterion, _variable, _needed in CRITERIA):
        # No criterion of the study: it comes before them all, so it is not said whether those are met.
        found, met = [Criterion(reason, "SCRFRS", reason, met=False)], False
    for criterion, variable, needed in CRITERIA:
        if needed is not None and setting(study, needed) is None:
            continue
        failed = reason is not None and reason.startswith(criterion)
        met = met and not failed
        decided = True if met else False if failed else None
        found.append(Criterion(reason if failed else criterion, variable, plain(subject[variable]), decided))
    return found


def _unscreened(evidence: PatientEvidence) -> Explanation:
    """Return why a patient without a row of ADSL is not screened: no condition has a code that screens."""
    # The codes as written: one of them may be of lung cancer, and in no value set yet.
    conditions = {each.id: each for each in evidence.resources.values() if each.view == "condition"}
    considered = []
    for row in evidence.codings:
        resource = conditions[row["id"]]
        said = " ".join(str(row[name]) for name in ("system", "code", "text") if row[name])
        reason = f"its code is in no value set of lung cancer: {said}"
        considered.append(
            Use("Condition", resource.id, resource.version, ("Condition.code",), resource.written, reason)
        )
    return Explanation(
        table="ADSL",
        variable="ITTFL",
        row=None,
        value=None,
        rule="a patient with a condition of value set nsclc is screened",
        numbers=(1,),
        parameters={},
        inputs={},
        used=(),
        considered=tuple(considered),
        assumptions=(),
    )

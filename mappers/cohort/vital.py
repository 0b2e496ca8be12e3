"""Vital status: death, and the last day on which a patient was seen alive.

A death is given by the Patient resource or by an observation of value set `death`. Its day may be partial or missing:
what is certain is used, and what is not is told.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import answers, diagnosis, events, exposure, facts
from mappers.cohort.facts import KEY, RESOURCE, Sources, dated, first_by, only, written_date
from mappers.cohort.issues import count, listed

FATAL_GRADE = 5  # CTCAE


def last_seen(sources: Sources) -> ir.Table:
    """Return the last day up to the cutoff on which any dated resource surely shows the patient alive.

    Of a partial date that is its first day. A dispensing shows the patient alive on its day, not to the end of what
    it supplies; an observation of the death does not.
    """
    observations = answers.observed(sources).anti_join(sources.member("observation", "code", "death"), list(RESOURCE))
    seen = [
        observations.select(*KEY, "date", "dtf"),
        exposure.doses(sources).select(*KEY, date=_["seen"], dtf=_["seenf"]),
        dated(sources, "procedure").filter(_["status"] == "completed").select(*KEY, "date", "dtf"),
        dated(sources, "adverse_event").select(*KEY, "date", "dtf"),
    ]
    return ibis.union(*seen).group_by(*KEY).agg(seen=dates.earliest(_["date"], _["dtf"]).max())


def observed_death(sources: Sources) -> ir.Table:
    """Return the observation of a patient's death with its date, whatever the cutoff: `observed`, `observed_flag`."""
    rows = only(sources.resources("observation"), sources.member("observation", "code", "death"), RESOURCE)
    rows = only(rows.filter(_["status"].isin(facts.USABLE_OBSERVATION)), diagnosis.candidates(sources))
    written = written_date("observation", rows)
    rows = rows.select(*KEY, "id", date=dates.day(written), dtf=dates.flag(written))
    # The most precise, then the earliest: nobody dies twice.
    first = first_by(
        rows, _["date"].isnull(), _["dtf"].asc(nulls_first=True), _["date"].asc(nulls_first=False), _["id"]
    )
    return first.select(*KEY, observed=_["date"], observed_flag=_["dtf"], observed_id=_["id"])


def exact(demographics: ir.Table, observed: ir.Table) -> ir.Table:
    """Return `died`, the first day that is given whole as that of a patient's death."""
    reported = demographics.filter(_["death"].notnull(), _["death_flag"].isnull()).select(*KEY, died=_["death"])
    found = observed.filter(_["observed"].notnull(), _["observed_flag"].isnull()).select(*KEY, died=_["observed"])
    return ibis.union(reported, found).group_by(*KEY).agg(died=_["died"].min())


def death(table: ir.Table, sources: Sources) -> ir.Table:
    """Add death up to the cutoff: DTHFL, DTHDT, DTHDTF, LSTALVDT and the resource that says it.

    An imputed day of death is never before the patient was last seen. Where a partial date leaves open whether the
    patient died before the cutoff, the imputed day decides, and the quality list says so.
    """
    exact = _["observed"].notnull() & _["observed_flag"].isnull()
    by_observation = _["observed_id"].notnull() & (_["death"].isnull() | (_["death_flag"].notnull() & exact))
    table = table.mutate(
        by_observation=by_observation,
        reported_from=dates.earliest(_["death"], _["death_flag"]),
        reported_to=dates.latest(_["death"], _["death_flag"]),
        observed_from=dates.earliest(_["observed"], _["observed_flag"]),
        observed_to=dates.latest(_["observed"], _["observed_flag"]),
    )
    table = table.mutate(
        deceased=_["deceased"].fill_null(False) | _["observed_id"].notnull(),
        death=_["by_observation"].ifelse(_["observed"], _["death"]),
        death_flag=_["by_observation"].ifelse(_["observed_flag"], _["death_flag"]),
    )
    table = table.mutate(
        death_from=dates.earliest(_["death"], _["death_flag"]), death_to=dates.latest(_["death"], _["death_flag"])
    )
    # "2023-05" is imputed as 15 May; a visit on 1 June puts the death on that day, but not beyond the cutoff.
    last = ibis.coalesce(_["seen"], _["death"])
    day = _["death_flag"].notnull().ifelse(ibis.greatest(_["death"], ibis.least(last, sources.cutoff)), _["death"])
    table = table.mutate(death=day)
    died = _["deceased"] & (_["death"].isnull() | (_["death"] <= sources.cutoff))
    table = table.mutate(DTHFL=died.ifelse("Y", ibis.null("string")))
    table = table.mutate(DTHDT=(_["DTHFL"] == "Y").ifelse(_["death"], ibis.null("date")))
    observation = facts.reference("observation", _["observed_id"])
    return table.mutate(
        DTHDTF=_["DTHDT"].notnull().ifelse(_["death_flag"], ibis.null("string")),
        LSTALVDT=_["DTHDT"].notnull().ifelse(ibis.least(_["seen"], _["DTHDT"]), _["seen"]),
        death_domain=_["by_observation"].ifelse("Observation", "Patient"),
        death_variable=_["by_observation"].ifelse("effective[x]", "deceased[x]"),
        death_source=_["by_observation"].ifelse(observation, facts.reference("patient", _["patient_id"])),
    )


def contradiction() -> ir.Value:
    """Return why nothing that counts time can be said of a patient; null where nothing contradicts itself."""
    return ibis.cases(
        (_["DTHDT"] < _["TRTSDT"], "death before the first dose"),
        (_["DTHDT"] < _["SURGDT"], "death before the surgery"),
        else_=ibis.null("string"),
    )


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Return what is missing, uncertain or contradictory about the deaths of screened patients."""
    died = subjects["DTHFL"] == "Y"
    partial = subjects["death_flag"].notnull()
    apart = (subjects["reported_to"] < subjects["observed_from"]) | (
        subjects["observed_to"] < subjects["reported_from"]
    )
    # DCUTDT is the cutoff as a column: Spark calls no SQL function where an array becomes rows.
    unclear = (subjects["death_from"] <= subjects["DCUTDT"]) & (subjects["death_to"] > subjects["DCUTDT"])
    found = {
        ("Patient", "death without a date"): died & subjects["DTHDT"].isnull(),
        ("Patient", "date of death partial, imputed"): partial & died,
        ("Patient", "date of death partial, before or after the data cut"): partial & unclear,
        ("Patient", "conflict: two dates of death"): apart.fill_null(False) | (subjects["death_dates"] > 1),
        ("Patient", "conflict: recorded as alive and as dead"): subjects["alive"] & subjects["deceased"],
        ("Patient", "conflict: death before the last contact"): died & (subjects["death_to"] < subjects["seen"]),
        ("Patient", "conflict: death before the first dose"): died & (subjects["DTHDT"] < subjects["TRTSDT"]),
    }
    return [listed(subjects, found), _fatal(sources, subjects)]


def _fatal(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Count fatal adverse events, by grade or outcome, of patients of whom no death is recorded."""
    outcome = sources.member("adverse_event", "outcome", "fatal-outcome").select(*RESOURCE, fatal=True)
    happened = facts.attach(events.events(sources), outcome, RESOURCE)
    fatal = happened.filter((_["ATOXGRN"] == FATAL_GRADE) | _["fatal"].fill_null(False))
    alive = subjects.filter(_["DTHFL"].isnull())
    return count(only(fatal, alive), "AdverseEvent", "conflict: fatal adverse event, no death recorded")

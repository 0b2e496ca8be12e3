"""ADSL: one row per screened patient, with populations, baseline, treatment periods, surgery and death.

Rules: docs/endpoint-rules.md 1 (analysis sets), 16 (AJCC stage groups); ADaMIG 1.3 for variables and flags. Time 0 is
the first dose of the study drug. Everybody with a lung cancer condition is screened; who is not enrolled says why in
SCRFRS.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.facts import KEY, Sources, attach, first_by, only

PUBLISHED = [
    "STUDYID",
    "USUBJID",
    "SUBJID",
    "SITEID",
    "AGE",
    "AGEU",
    "SEX",
    "ECOGBL",
    "SMKSTAT",
    "STAGEBL",
    "TSTGBL",
    "NSTGBL",
    "ALKSTAT",
    "ITTFL",
    "SAFFL",
    "SURGFL",
    "ADJSAFFL",
    "SCRFRS",
    "ARM",
    "TRTSDT",
    "TRTEDT",
    "AP01SDT",
    "AP01EDT",
    "AP02SDT",
    "AP02EDT",
    "SURGDT",
    "SURGTYPE",
    "NEOCMPFL",
    "ADJCMPFL",
    "NOSURGRS",
    "DTHFL",
    "DTHDT",
    "DTHDTF",
    "LSTALVDT",
    "DCUTDT",
    "SRCREF",
]


def _demographics(sources: Sources) -> ir.Table:
    """Return sex, birth and death as the Patient resource gives them; CDISC codelist SEX has F, M and U."""
    rows = sources.resources("patient")
    sex = _["gender"].cases(("female", "F"), ("male", "M"), else_="U")
    return rows.select(
        "site",
        patient=rows["id"],
        patient_id=rows["id"],
        SEX=sex,
        birth=dates.day(rows["birth_date"]),
        deceased=rows["deceased"].fill_null(False) | rows["deceased_date"].notnull(),
        death=dates.day(rows["deceased_date"]),
        death_flag=dates.flag(rows["deceased_date"]),
    )


def _diagnosis(sources: Sources) -> ir.Table:
    conditions = only(facts.confirmed_conditions(sources), sources.member("condition", "code", "nsclc"), facts.RESOURCE)
    # The earliest one; an undated one only where there is no other.
    chosen = first_by(conditions, _["date"].asc(nulls_first=False), _["id"])
    return chosen.select(*KEY, condition_id=_["id"])


def _alk(sources: Sources) -> ir.Table:
    """Return the ALK status: a variant assessment of gene ALK valued present, or a condition that names the status.

    Both POSITIVE and NEGATIVE of one patient is a conflict: reported, not guessed, and not eligible.
    """
    tested = facts.asked(sources, facts.observations(sources), "alk-variant-code")
    tested = facts.asked(sources, tested, "alk-gene", "component")
    by_test = facts.valued(sources, tested, "alk-variant-value")
    by_condition = facts.confirmed_conditions(sources).join(
        sources.coded("condition", "code", "alk-condition"), list(facts.RESOURCE)
    )
    both = ibis.union(
        by_test.select(*KEY, "value", source=facts.reference("observation", _["id"])),
        by_condition.select(*KEY, "value", source=facts.reference("condition", _["id"])),
    )
    return both.group_by(*KEY).agg(
        ALKSTAT=(_["value"].nunique() > 1).ifelse("CONFLICT", _["value"].min()), alk_source=_["source"].min()
    )


def _first_adjuvant_dose(sources: Sources, surgery: ir.Table) -> ir.Table:
    after = facts.doses(sources).join(surgery.select(*KEY, "SURGDT"), list(KEY)).filter(_["date"] > _["SURGDT"])
    return first_by(after, _["date"], _["id"]).select(*KEY, adjuvant_id=_["id"])


def _surgery(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return the first completed resection after time 0; several procedures of that day are one operation.

    Two ICD-10-PCS resections of different lobes on one day are a bilobectomy, hence OTHER. Otherwise the most
    extensive procedure names the operation: pneumonectomy, then lobectomy, then other.
    """
    # An earlier resection is not the one that the neoadjuvant treatment prepared.
    rows = facts.resections(sources).join(treatment, list(KEY)).filter(_["date"] > _["TRTSDT"])
    rows = rows.mutate(first=_["date"].min().over(ibis.window(group_by=list(KEY))))
    rows = rows.filter(_["date"] == _["first"])
    day = rows.group_by(*KEY).agg(
        SURGDT=_["date"].min(),
        surgery_id=_["id"].min(),
        lobes=_["lobe"].nunique(where=_["value"] == "LOBECTOMY"),
        lungs=(_["value"] == "PNEUMONECTOMY").any(),
        lobar=(_["value"] == "LOBECTOMY").any(),
    )
    kind = ibis.cases(
        (_["lungs"], "PNEUMONECTOMY"), (_["lobes"] > 1, "OTHER"), (_["lobar"], "LOBECTOMY"), else_="OTHER"
    )
    return day.mutate(SURGTYPE=kind).select(*KEY, "SURGDT", "SURGTYPE", "surgery_id")


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
    episodes = rows.mutate(episode=_["new"].sum().over(running)).group_by(*KEY, "episode")
    spans = episodes.agg(start=_["date"].min(), end=_["until"].max())
    spans = spans.mutate(length=dates.days_between(_["start"], _["end"]) + 1)
    return spans.group_by(*KEY).agg(
        **{
            f"{prefix}SDT": _["start"].min(),
            f"{prefix}EDT": _["end"].max(),
            f"{prefix}_days": _["length"].sum(),
        }
    )


def _periods(sources: Sources, treatment: ir.Table, surgery: ir.Table) -> ir.Table:
    """Return neoadjuvant (AP01) and adjuvant (AP02) exposure, split at the day of surgery, and completion flags."""
    rule = sources.study.treatment
    rows = attach(facts.doses(sources), surgery.select(*KEY, "SURGDT"))
    after = _["SURGDT"].notnull() & (_["date"] > _["SURGDT"])
    neo = _exposure(rows.filter(~after), rule.merge_gap_days, "AP01")
    adjuvant = _exposure(rows.filter(after), rule.merge_gap_days, "AP02")
    table = attach(attach(treatment, neo), adjuvant)
    return table.mutate(
        NEOCMPFL=facts.yes_no(_["AP01_days"] >= rule.neoadjuvant_cycles * rule.cycle_days),
        ADJCMPFL=facts.yes_no(_["AP02_days"] >= rule.adjuvant_cycles * rule.cycle_days),
    ).drop("AP01_days", "AP02_days")


def _baseline_values(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return stage, T, N, ECOG and smoking: the latest value up to time 0, or up to the cutoff without a dose.

    Condition.stage.summary is not used: it is undated and the most recent one, which may be a yp stage.
    """
    stage = facts.asked(sources, facts.observations(sources), "clinical-stage-code")
    ecog = facts.asked(sources, facts.observations(sources), "ecog-code")
    graded = attach(ecog, sources.coded("observation", "value", "ecog"), facts.RESOURCE)
    graded = graded.mutate(value=ibis.coalesce(_["value_integer"].cast("string"), _["value"]))
    smoking = facts.asked(sources, facts.observations(sources), "smoking-code")
    wanted = {
        "STAGEBL": facts.valued(sources, stage, "stage-group"),
        "TSTGBL": facts.valued(sources, facts.observations(sources), "clinical-t"),
        "NSTGBL": facts.valued(sources, facts.observations(sources), "clinical-n"),
        "ECOGBL": graded.filter(_["value"].isin(["0", "1", "2", "3", "4", "5"])),
        "SMKSTAT": facts.valued(sources, smoking, "smoking-status"),
    }
    table = facts.candidates(sources)
    for variable, rows in wanted.items():
        latest = sources.once(f"baseline_{variable}", lambda rows=rows: _latest(rows, treatment))  # type: ignore[misc]
        table = attach(table, latest.select(*KEY, **{variable: _["value"], f"{variable}_id": _["id"]}))
    return table.mutate(ECOGBL=_["ECOGBL"].cast("int32"))


def _latest(rows: ir.Table, treatment: ir.Table) -> ir.Table:
    before = attach(rows, treatment.select(*KEY, "TRTSDT"))
    before = before.filter(_["TRTSDT"].isnull() | (_["date"] <= _["TRTSDT"]))
    return first_by(before, _["date"].desc(), _["id"])


def _no_surgery_reason(sources: Sources) -> ir.Table:
    """Return the coded reason of a procedure that was not done; free text stays in the hospital and counts as OTHER."""
    rows = sources.resources("procedure").filter(_["status"] == "not-done")
    day = dates.day(facts.written_date("procedure", rows))
    rows = rows.filter(day.isnull() | (day <= sources.cutoff))
    rows = rows.join(sources.coded("procedure", "statusReason", "no-surgery-reason"), list(facts.RESOURCE))
    return rows.group_by(*KEY).agg(reason=_["value"].min())


def _last_seen(sources: Sources) -> ir.Table:
    """Return the last day up to the cutoff on which any dated resource shows the patient alive."""
    seen = [
        facts.observed(sources).select(*KEY, "date"),
        facts.doses(sources).select(*KEY, date=_["until"]),
        facts.dated(sources, "procedure").filter(_["status"] == "completed").select(*KEY, "date"),
        facts.dated(sources, "adverse_event").select(*KEY, "date"),
    ]
    return ibis.union(*seen).group_by(*KEY).agg(seen=_["date"].max())


def _death(table: ir.Table, sources: Sources) -> ir.Table:
    """Add death up to the cutoff. An imputed day of death is never before the patient was last seen."""
    imputed = _["death_flag"].notnull()
    # "2023-05" is imputed as 15 May; a visit on 1 June puts the death on that day, but not beyond the cutoff.
    last = ibis.coalesce(_["seen"], _["death"])
    death = imputed.ifelse(ibis.greatest(_["death"], ibis.least(last, sources.cutoff)), _["death"])
    table = table.mutate(death=death)
    died = _["deceased"] & (_["death"].isnull() | (_["death"] <= sources.cutoff))
    table = table.mutate(DTHFL=died.ifelse("Y", ibis.null("string")))
    table = table.mutate(DTHDT=(_["DTHFL"] == "Y").ifelse(_["death"], ibis.null("date")))
    return table.mutate(
        DTHDTF=_["DTHDT"].notnull().ifelse(_["death_flag"], ibis.null("string")),
        LSTALVDT=_["DTHDT"].notnull().ifelse(ibis.least(_["seen"], _["DTHDT"]), _["seen"]),
    )


def _screen_failure(sources: Sources) -> ir.Value:
    """Return the first criterion that a patient fails, in the order of the flow diagram; null for the enrolled."""
    rule = sources.study.eligibility
    return ibis.cases(
        (_["patient_id"].isnull(), "NO USABLE PATIENT RECORD"),
        (_["condition_id"].isnull(), "NO CONFIRMED NSCLC"),
        (_["STAGEBL"].isnull(), "STAGE UNKNOWN"),
        (~_["STAGEBL"].isin(list(rule.stages)), "STAGE NOT ELIGIBLE"),
        (_["ALKSTAT"].isnull(), "ALK STATUS UNKNOWN"),
        (~_["ALKSTAT"].isin(list(rule.alk)), "ALK STATUS NOT ELIGIBLE"),
        (_["TRTSDT"].isnull(), "NO DOSE OF THE STUDY DRUG"),
        else_=ibis.null("string"),
    )


def subjects(sources: Sources) -> ir.Table:
    """Return ADSL with the internal keys (site, patient) and source ids that the other cohort tables join on."""
    once = sources.once
    doses = facts.doses(sources)
    treatment = once("treatment", lambda: doses.group_by(*KEY).agg(TRTSDT=_["date"].min(), TRTEDT=_["until"].max()))
    surgery = once("surgery", lambda: _surgery(sources, treatment))
    parts = {
        "demographics": lambda: _demographics(sources),
        "diagnosis": lambda: _diagnosis(sources),
        "alk": lambda: _alk(sources),
        "periods": lambda: _periods(sources, treatment, surgery),
        "first_dose": lambda: first_by(doses, _["date"], _["id"]).select(*KEY, dose_id=_["id"]),
        "first_adjuvant_dose": lambda: _first_adjuvant_dose(sources, surgery),
        "no_surgery_reason": lambda: _no_surgery_reason(sources),
        "last_seen": lambda: _last_seen(sources),
    }
    table = attach(_baseline_values(sources, treatment), surgery)
    for name, make in parts.items():
        table = attach(table, once(name, make))
    table = once("joined", lambda: table)
    table = _death(table, sources).mutate(SCRFRS=_screen_failure(sources))
    return _populations(table, sources)


def _populations(table: ir.Table, sources: Sources) -> ir.Table:
    study = sources.study
    enrolled = _["SCRFRS"].isnull()
    resected = enrolled & _["SURGDT"].notnull()
    day_before = (_["SURGDT"].cast("timestamp") - ibis.interval(days=1)).cast("date")
    # Neoadjuvant exposure ends on the day before surgery at the latest, whatever a record of a long course says.
    neo_end = ibis.coalesce(ibis.least(_["AP01EDT"], day_before), _["AP01EDT"])
    return table.mutate(
        STUDYID=ibis.literal(study.id),
        SUBJID=facts.pseudonym(_["patient"]),
        SITEID=_["site"],
        USUBJID=facts.subject_identifier(study, _["site"], _["patient"]),
        AGE=dates.years_between(_["birth"], ibis.coalesce(_["TRTSDT"], sources.cutoff)),
        AGEU=ibis.literal("YEARS"),
        ITTFL=facts.yes_no(enrolled),
        SAFFL=facts.yes_no(enrolled),
        SURGFL=facts.yes_no(resected),
        ADJSAFFL=facts.yes_no(resected & _["AP02SDT"].notnull()),
        ARM=enrolled.ifelse(study.arm, ibis.null("string")),
        AP01EDT=neo_end,
        NEOCMPFL=_["NEOCMPFL"].fill_null("N"),
        ADJCMPFL=_["ADJCMPFL"].fill_null("N"),
        NOSURGRS=(enrolled & _["SURGDT"].isnull()).ifelse(_["reason"].fill_null("OTHER"), ibis.null("string")),
        DCUTDT=sources.cutoff,
    )


def published(table: ir.Table) -> ir.Table:
    """Return the published columns of ADSL: pseudonyms instead of ids, and the resources behind each row."""
    sources = facts.references(
        facts.reference("patient", _["patient_id"]),
        facts.reference("condition", _["condition_id"]),
        _["alk_source"],
        facts.reference("medication_administration", _["dose_id"]),
        facts.reference("procedure", _["surgery_id"]),
        *[
            facts.reference("observation", _[f"{name}_id"])
            for name in ("STAGEBL", "TSTGBL", "NSTGBL", "ECOGBL", "SMKSTAT")
        ],
    )
    return table.mutate(SRCREF=sources).select(*PUBLISHED)

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
from mappers.cohort import baseline, biomarkers, consent, diagnosis, eligibility, exposure, facts, surgery, vital
from mappers.cohort.facts import KEY, Sources, attach_all
from mappers.cohort.people import people

OLDEST = 120  # years
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
    "TRTSDTF",
    "TRTEDT",
    "TRTEDTF",
    "AP01SDT",
    "AP01SDTF",
    "AP01EDT",
    "AP01EDTF",
    "AP01EXSRC",
    "AP02SDT",
    "AP02SDTF",
    "AP02EDT",
    "AP02EDTF",
    "AP02EXSRC",
    "SURGDT",
    "SURGDTF",
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
    """Return sex, birth and death as the Patient resources give them; CDISC codelist SEX has F, M and U."""
    rows = people(sources)
    sex = _["gender"].cases(("female", "F"), ("male", "M"), else_="U")
    return rows.select(
        *KEY,
        "patient_id",
        SEX=sex,
        birth=dates.day(rows["birth_date"]),
        deceased=rows["deceased"] | rows["deceased_date"].notnull(),
        alive=rows["alive"],
        death_dates=rows["death_dates"],
        death=dates.day(rows["deceased_date"]),
        death_flag=dates.flag(rows["deceased_date"]),
    )


def subjects(sources: Sources) -> ir.Table:
    """Return ADSL with the internal keys (site, patient) and source ids that the other cohort tables join on."""
    once = sources.once
    # The phases are split at surgery, and surgery is the first resection after time 0, so both are found in turns: the
    # first dose of any source bounds the resections, and the sources chosen before that one give time 0.
    likely = once("likely_surgery", lambda: surgery.first_resection(sources, exposure.first_day(sources)))
    treatment = once("treatment", lambda: exposure.time_zero(exposure.phased(sources, likely)))
    operation = once("surgery", lambda: surgery.first_resection(sources, treatment.mutate(origin=_["TRTSDT"])))
    course = once("course", lambda: exposure.phased(sources, operation))
    demographics = once("demographics", lambda: _demographics(sources))
    observed = once("observed_death", lambda: vital.observed_death(sources))
    deaths = vital.exact(demographics, observed)
    parts = {
        "demographics": lambda: demographics,
        "diagnosis": lambda: diagnosis.lung_cancer(sources),
        "alk": lambda: biomarkers.alk_status(sources),
        "periods": lambda: exposure.periods(sources, course, treatment, deaths),
        "first_adjuvant_dose": lambda: exposure.first_adjuvant_dose(course),
        "no_surgery_reason": lambda: surgery.no_surgery_reason(sources, treatment),
        "observed_death": lambda: observed,
        "prior_treatment": lambda: eligibility.prior_treatment(sources, treatment),
        "last_seen": lambda: vital.last_seen(sources),
    }
    found = [treatment, operation, *(once(name, make) for name, make in parts.items())]
    table = once("joined", lambda: attach_all(baseline.baseline_values(sources, treatment), found))
    table = vital.death(table, sources).mutate(SCRFRS=eligibility.screen_failure(sources))
    table = consent.with_consent(sources, table)
    return _populations(eligibility.counted_once(sources, table), sources)


def _populations(table: ir.Table, sources: Sources) -> ir.Table:
    study = sources.study
    enrolled = _["SCRFRS"].isnull()
    resected = enrolled & _["SURGDT"].notnull()
    day_before = (_["SURGDT"].cast("timestamp") - ibis.interval(days=1)).cast("date")
    # Neoadjuvant exposure ends on the day before surgery at the latest, whatever a record of a long course says.
    neo_end = ibis.coalesce(ibis.least(_["AP01EDT"], day_before), _["AP01EDT"])
    cut_short = (_["AP01EDT"] > day_before).fill_null(False)
    neo_flag = cut_short.ifelse(_["SURGDTF"], _["AP01EDTF"])
    age = dates.years_between(_["birth"], ibis.coalesce(_["TRTSDT"], sources.cutoff))
    return table.mutate(
        STUDYID=ibis.literal(study.id),
        SUBJID=facts.pseudonym(_["patient"]),
        SITEID=_["site"],
        USUBJID=facts.subject_identifier(study, _["site"], _["patient"]),
        # A birth in the future, or in another century, is a slip of the pen.
        AGE=age.between(0, OLDEST).ifelse(age, ibis.null("int32")),
        AGEU=ibis.literal("YEARS"),
        ITTFL=facts.yes_no(enrolled),
        SAFFL=facts.yes_no(enrolled),
        SURGFL=facts.yes_no(resected),
        ADJSAFFL=facts.yes_no(resected & _["AP02SDT"].notnull()),
        ARM=enrolled.ifelse(study.arm, ibis.null("string")),
        AP01EDT=neo_end,
        AP01EDTF=neo_flag,
        TRTEDT=ibis.coalesce(_["AP02EDT"], neo_end),
        TRTEDTF=_["AP02EDT"].isnull().ifelse(neo_flag, _["AP02EDTF"]),
        NEOCMPFL=_["NEOCMPFL"].fill_null("N"),
        ADJCMPFL=_["ADJCMPFL"].fill_null("N"),
        NOSURGRS=(enrolled & _["SURGDT"].isnull()).ifelse(_["reason"].fill_null("OTHER"), ibis.null("string")),
        DCUTDT=sources.cutoff,
        contradiction=vital.contradiction(),
    )


def published(sources: Sources, table: ir.Table) -> ir.Table:
    """Return the published columns of ADSL: pseudonyms instead of ids, and the resources behind each row."""
    supports = facts.supports
    died = (_["DTHFL"] == "Y").ifelse(_["death_source"], ibis.null("string"))
    references = facts.references(
        supports("AGE SEX", facts.reference("patient", _["patient_id"])),
        supports("DTHFL", died),
        supports("ITTFL", facts.reference("condition", _["condition_id"])),
        supports("ALKSTAT", _["alk_positive"]),
        supports("ALKSTAT", _["alk_negative"]),
        supports("SCRFRS", (_["SCRFRS"] == eligibility.PRIOR).ifelse(_["prior_ref"], ibis.null("string"))),
        supports("TRTSDT", facts.typed_reference(_["dose_type"], _["dose_id"])),
        supports("SURGDT SURGTYPE", facts.reference("procedure", _["surgery_id"])),
        *[supports(name, _[f"{name}_ref"]) for name in ("STAGEBL", "TSTGBL", "NSTGBL", "ECOGBL", "SMKSTAT")],
    )
    found = table.mutate(SRCREF=references).select(*PUBLISHED)
    return consent.withheld(found) if sources.consent else found

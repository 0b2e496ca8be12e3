"""The grounds of each variable of the cohort tables: its rule, the study's settings, value sets and resources.

The rules themselves are in the module of each table; this table says them in words, and which resources they look at,
for `periop explain` and for docs/derivation.md. A test holds it to the code: every published column has an entry, and
every value set that the rules ask for is named here with the element of which it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mappers.cohort import adae, adrs, adsl, adtte
from mappers.cohort.evidence import (
    ADJUVANT,
    CENTRAL,
    DEATH,
    EDITION,
    FOLLOWED,
    LUNG_CANCER,
    MARGIN,
    NEOADJUVANT,
    OTHER_EVENTS,
    PATHOLOGICAL_STAGE,
    PATIENT,
    PRIOR,
    RECIST,
    SEEN,
    SURGERY,
    UP_TO_TIME_0,
    VIABLE_NODES,
    VIABLE_PRIMARY,
    YPN,
    YPT,
    Evidence,
    Part,
    answered,
    doses,
    interpreted,
)
from mappers.study import TIMES_TO_EVENT

Table = Literal["ADSL", "ADRS", "ADTTE", "ADAE"]
COLUMNS: dict[Table, list[str]] = {
    "ADSL": adsl.PUBLISHED,
    "ADRS": adrs.PUBLISHED,
    "ADTTE": adtte.PUBLISHED,
    "ADAE": adae.PUBLISHED,
}
PARAMETERS: dict[Table, dict[str, str]] = {"ADRS": adrs.PARAMS, "ADTTE": TIMES_TO_EVENT}


@dataclass(frozen=True)
class Variable:
    """One column of a cohort table, or one parameter of ADRS or ADTTE.

    Attributes:
        rule: how it is derived, in a sentence.
        numbers: the rules of docs/endpoint-rules.md.
        settings: the keys of the study that it depends on.
        evidence: the resources that it may rest on.
        of: variables of ADSL, or parameters, that it is derived from.
        choice: which resource counts where several can; empty: all of them do.
        flag: the column that says that its date is imputed.
    """

    rule: str
    numbers: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    of: tuple[str, ...] = ()
    choice: str = ""
    flag: str | None = None


UNDATED_STAGE = "a stage without a date of its own, which may be a later one"
LATEST = "the latest one counts"
FIRST = "the first one counts"


def event(*elements: str, coded: Part | None = None) -> tuple[Evidence, ...]:
    """Return the adverse events with the elements that are read."""
    return (Evidence("adverse_event", tuple(f"AdverseEvent.{each}" for each in elements), None, coded),)


STUDYID = Variable("the id of the study", settings=("id",))
SITEID = Variable("the name of the site")


def imputed(column: str) -> Variable:
    """Return the flag of a date."""
    return Variable(f"D: the day of {column} is imputed, M: the month as well", of=(column,))


# Of both phases; a phase that is preferred from another source is explained by its own variables.
EXPOSURE = doses("AP01EXSRC")
SOURCE = Variable(
    "the resource type that the exposure of the phase is taken from: administrations, else dispenses, else statements",
    (),
    ("treatment.drug", "treatment.daily_units"),
    EXPOSURE,
    ("SURGDT",),
)
USUBJID = Variable("study, site and the keyed hash of Patient.id", evidence=(PATIENT,))
DCUTDT = Variable("the data cutoff: nothing dated after it is used", settings=("data_cut",))
SRCREF = Variable("the resources behind the row, each with the variable that it supports, under pseudonyms")

ADSL: dict[str, Variable] = {
    "STUDYID": STUDYID,
    "USUBJID": USUBJID,
    "SUBJID": Variable("the keyed hash of Patient.id", evidence=(PATIENT,)),
    "SITEID": SITEID,
    "AGE": Variable(
        "completed years at time 0, at the cutoff where there is no dose",
        evidence=(Evidence("patient", ("Patient.birthDate",)),),
        of=("TRTSDT",),
    ),
    # CDISC wants the unit beside the number.
    "AGEU": Variable("always YEARS"),
    "SEX": Variable("F, M, else U", evidence=(Evidence("patient", ("Patient.gender",)),)),
    # Baseline values are looked for up to time 0, because treatment changes them.
    "ECOGBL": Variable(
        "the performance status, 0 to 5, up to time 0",
        evidence=(
            *answered(("ecog-code",), ("ecog",), UP_TO_TIME_0),
            *interpreted("ecog-code", "ecog", UP_TO_TIME_0),
        ),
        of=("TRTSDT",),
        choice=LATEST,
    ),
    # Only up to time 0 as well: who stops smoking before surgery was a smoker at baseline.
    "SMKSTAT": Variable(
        "the smoking status up to time 0",
        evidence=answered(("smoking-code",), ("smoking-status",), UP_TO_TIME_0),
        of=("TRTSDT",),
        choice=LATEST,
    ),
    "STAGEBL": Variable(
        "the clinical stage group up to time 0; Condition.stage.summary has no date and is not used",
        (16,),
        evidence=(
            *answered(("clinical-stage-code",), ("stage-group",), UP_TO_TIME_0, *EDITION),
            Evidence("condition", ("Condition.stage.summary",), ("stage", ("stage-group",)), against=UNDATED_STAGE),
            PATHOLOGICAL_STAGE,
        ),
        of=("TRTSDT",),
        choice=LATEST,
    ),
    "TSTGBL": Variable(
        "the clinical T category up to time 0",
        (7, 16),
        evidence=(
            *answered((), ("clinical-t",), UP_TO_TIME_0),
            *answered(("tnm-category-code",), ("clinical-t", "tnm-notation"), UP_TO_TIME_0, *EDITION)[:1],
        ),
        of=("TRTSDT",),
        choice=LATEST,
    ),
    "NSTGBL": Variable(
        "the clinical N category up to time 0; N2a and N2b are N2",
        (7, 16),
        evidence=(
            *answered((), ("clinical-n",), UP_TO_TIME_0),
            *answered(("tnm-category-code",), ("clinical-n", "tnm-notation"), UP_TO_TIME_0, *EDITION)[:1],
        ),
        of=("TRTSDT",),
        choice=LATEST,
    ),
    # No limit in time: a rearrangement of the gene does not come and go.
    "ALKSTAT": Variable(
        "POSITIVE or NEGATIVE by a variant assessment of the gene ALK or by a condition that names the status; "
        "CONFLICT where two disagree",
        evidence=(
            *answered(("alk-variant-code", "alk-test-code"), ("alk-variant-value", "alk-condition")),
            *interpreted("alk-variant-code", "alk-variant-value"),
            Evidence("observation", ("Observation.component.value[x]",), ("value", ("alk-gene",))),
            Evidence("condition", ("Condition.code",), ("code", ("alk-condition",))),
            Evidence("condition", ("Condition.evidence.code",), ("evidence", ("alk-condition",))),
        ),
    ),
    "ITTFL": Variable("Y where no criterion of SCRFRS is failed", (1,), evidence=LUNG_CANCER, of=("SCRFRS",)),
    # A single arm: who was given a dose is enrolled, and who is enrolled was given one.
    "SAFFL": Variable("as ITTFL, because enrolment asks for a dose", (1,), of=("ITTFL", "TRTSDT")),
    "SURGFL": Variable("Y where enrolled and resected", (1,), of=("ITTFL", "SURGDT")),
    "ADJSAFFL": Variable("Y where resected with a dose after surgery", (1,), of=("SURGFL", "AP02SDT")),
    "SCRFRS": Variable(
        "the first criterion of enrolment that is failed",
        (1,),
        (
            "eligibility.stages",
            "eligibility.alk",
            "eligibility.ecog_max",
            "eligibility.ecog_unknown",
            "eligibility.prior_systemic_treatment",
            "eligibility.prior_systemic_days",
            "treatment.drug",
        ),
        evidence=(PATIENT, *LUNG_CANCER, *PRIOR),
        of=("STAGEBL", "ALKSTAT", "ECOGBL", "TRTSDT"),
    ),
    "ARM": Variable("the arm of the study, for the enrolled", settings=("arm",), of=("ITTFL",)),
    # Exposure is chosen by phase, so that each phase names its source.
    "TRTSDT": Variable(
        "time 0: the first day of exposure to the study drug",
        (1, 8),
        ("treatment.drug",),
        EXPOSURE,
        choice=FIRST,
        flag="TRTSDTF",
    ),
    "TRTSDTF": imputed("TRTSDT"),
    "TRTEDT": Variable("the last day of exposure", (), ("treatment.drug",), EXPOSURE, flag="TRTEDTF"),
    "TRTEDTF": imputed("TRTEDT"),
    "AP01SDT": Variable(
        "the first day of exposure up to surgery", (15,), ("treatment.drug",), NEOADJUVANT, ("SURGDT",), flag="AP01SDTF"
    ),
    "AP01SDTF": imputed("AP01SDT"),
    "AP01EDT": Variable(
        "the last day of exposure up to surgery, the day before surgery at the latest",
        (15,),
        ("treatment.drug",),
        NEOADJUVANT,
        ("SURGDT",),
        flag="AP01EDTF",
    ),
    "AP01EDTF": imputed("AP01EDT"),
    "AP01EXSRC": SOURCE,
    "AP02SDT": Variable(
        "the first day of exposure after surgery",
        (15,),
        ("treatment.drug",),
        ADJUVANT,
        ("SURGDT",),
        choice=FIRST,
        flag="AP02SDTF",
    ),
    "AP02SDTF": imputed("AP02SDT"),
    "AP02EDT": Variable(
        "the last day of exposure after surgery",
        (15,),
        ("treatment.drug",),
        ADJUVANT,
        ("SURGDT",),
        flag="AP02EDTF",
    ),
    "AP02EDTF": imputed("AP02EDT"),
    "AP02EXSRC": SOURCE,
    # An earlier resection is not the one that the neoadjuvant treatment prepared.
    "SURGDT": Variable(
        "the first completed resection of lung after time 0",
        (1,),
        evidence=SURGERY,
        of=("TRTSDT",),
        choice=FIRST,
        flag="SURGDTF",
    ),
    "SURGDTF": imputed("SURGDT"),
    "SURGTYPE": Variable(
        "the most extensive procedure of the day of SURGDT; two lobes are OTHER", evidence=SURGERY, of=("SURGDT",)
    ),
    "NEOCMPFL": Variable(
        "Y where the days of exposure up to surgery, short gaps included, reach the planned cycles",
        (),
        ("treatment.neoadjuvant_cycles", "treatment.cycle_days", "treatment.merge_gap_days"),
        NEOADJUVANT,
        ("SURGDT",),
    ),
    "ADJCMPFL": Variable(
        "Y where the days of exposure after surgery, short gaps included, reach the planned cycles",
        (),
        ("treatment.adjuvant_cycles", "treatment.cycle_days", "treatment.merge_gap_days"),
        ADJUVANT,
        ("SURGDT",),
    ),
    # A planned procedure that was not done says why; its text stays in the hospital.
    "NOSURGRS": Variable(
        "why an enrolled patient was not resected: the coded reason of a procedure that was not done, else OTHER",
        evidence=(
            Evidence("procedure", ("Procedure.statusReason",), ("statusReason", ("no-surgery-reason",))),
            *SURGERY,
        ),
        of=("ITTFL", "SURGDT"),
    ),
    # German registries report a death as an observation, and leave the patient record as it is.
    "DTHFL": Variable("Y where a death up to the cutoff is recorded", (10,), evidence=DEATH),
    "DTHDT": Variable(
        "the day of death; an imputed one is not before the patient was last seen",
        (10,),
        evidence=DEATH,
        of=("DTHFL",),
        flag="DTHDTF",
    ),
    "DTHDTF": imputed("DTHDT"),
    # Any contact shows that a patient lives, so that all dated resources are looked at.
    "LSTALVDT": Variable(
        "the last day up to the cutoff on which a dated resource shows the patient alive",
        (10,),
        evidence=SEEN,
        choice=LATEST,
    ),
    "DCUTDT": DCUTDT,
    "SRCREF": SRCREF,
}

# Of the parameters the evidence is here, and that of the columns of their rows below: a row has that of both.
RESPONSES: dict[str, Variable] = {
    "MPR": Variable(
        "Y where the residual viable tumour is within the threshold, in the nodes too where the study says so",
        (2, 3),
        ("response.mpr_threshold_percent", "response.mpr_scope", "response.prefer_evaluator"),
        (*VIABLE_PRIMARY, *VIABLE_NODES, *CENTRAL, *YPN),
        ("SURGDT",),
        "the preferred evaluator, then the latest, then the highest reading counts",
    ),
    "PCR": Variable(
        "Y where no viable tumour is left: 0 % and ypT0 ypN0",
        (4,),
        ("response.pcr_accepts_tis", "response.prefer_evaluator"),
        (*VIABLE_PRIMARY, *VIABLE_NODES, *CENTRAL, *YPT, *YPN),
        ("SURGDT",),
        "the preferred evaluator, then the latest, then the highest reading counts",
    ),
    # Assessments after the operation never count (docs/endpoint-rules.md 5).
    "BOR": Variable(
        "the best RECIST 1.1 response after time 0 and before surgery, up to the first PD",
        (5,),
        evidence=RECIST,
        of=("TRTSDT", "SURGDT"),
        choice="the best one up to the first PD counts",
    ),
    "RSP": Variable(
        "Y where BOR is CR or PR",
        (5,),
        evidence=RECIST,
        of=("TRTSDT", "SURGDT"),
        choice="the best one up to the first PD counts",
    ),
    "R0": Variable(
        "Y where the worst residual tumour status on or after surgery is R0",
        (6,),
        evidence=MARGIN,
        of=("SURGDT",),
        choice="the worst one counts",
    ),
    # The comparison needs a clinical and a yp category (docs/endpoint-rules.md 7).
    "NDOWN": Variable(
        "Y where ypN is below cN",
        (7,),
        evidence=YPN,
        of=("NSTGBL", "SURGDT"),
        choice=f"a yp value first, then {LATEST}",
    ),
    "PVTPCT": Variable(
        "one reading of the residual viable tumour of the primary, in percent",
        (2,),
        ("response.prefer_evaluator",),
        (*VIABLE_PRIMARY, *CENTRAL),
        ("SURGDT",),
    ),
    "OVR": Variable("one RECIST 1.1 assessment behind BOR", (5,), evidence=RECIST, of=("TRTSDT", "SURGDT")),
}

TIMES: dict[str, Variable] = {
    # A second primary tumour and new anticancer therapy are never events (docs/endpoint-rules.md 8).
    "EFS": Variable(
        "time 0 to progression, recurrence or death, else to the last tumour assessment",
        (8,),
        ("events.r1_r2_is_event", "events.worsened_is_progression"),
        (*FOLLOWED, *DEATH),
        ("TRTSDT", "SURGDT", "DTHDT"),
        "the first event counts, else the last assessment",
    ),
    "OS": Variable("time 0 to death, else to the last day known alive", (10,), (), DEATH, ("TRTSDT", "LSTALVDT")),
    "DFS": Variable(
        "R0 resection to recurrence or death, else to the last tumour assessment",
        (9,),
        ("events.r1_r2_is_event", "events.worsened_is_progression"),
        (*FOLLOWED, *DEATH),
        ("SURGDT", "R0", "DTHDT"),
        "the first event counts, else the last assessment",
    ),
    "TTSURG": Variable("time 0 to surgery", (1,), evidence=SURGERY, of=("TRTSDT", "SURGDT"), choice=FIRST),
    "TTADJ": Variable(
        "surgery to the first dose after it",
        (1,),
        evidence=ADJUVANT,
        of=("SURGDT", "AP02SDT"),
        choice=FIRST,
    ),
}

ADRS: dict[str, Variable] = {
    "STUDYID": STUDYID,
    "USUBJID": USUBJID,
    "SITEID": SITEID,
    "PARAMCD": Variable("the code of the parameter"),
    "PARAM": Variable("the name of the parameter"),
    "AVALC": Variable("the value as text"),
    "AVAL": Variable("the value as a number: 1 or 0 for Y or N, percent for PVTPCT"),
    "ADT": Variable("the day of the assessment", flag="ADTF"),
    "ADTF": imputed("ADT"),
    "AVISIT": Variable("PRE-SURGERY or SURGERY"),
    "ANL01FL": Variable("Y where the row counts", (3,), ("response.prefer_evaluator",)),
    "EVALTYP": Variable("BICR for a central reading, else INVESTIGATOR", (3,), evidence=CENTRAL),
    # A patient who was not operated on or not assessed stays in the denominator.
    "DTYPE": Variable("NONRESP: not operated, not assessed or not evaluable, and therefore N", (3, 5)),
    "CRIT1": Variable("the threshold of viable tumour", (3,), ("response.mpr_threshold_percent",)),
    "CRIT1FL": Variable("Y where the primary is within CRIT1", (3,), ("response.mpr_threshold_percent",)),
    "DCUTDT": DCUTDT,
    "SRCREF": SRCREF,
}

ADTTE: dict[str, Variable] = {
    "STUDYID": STUDYID,
    "USUBJID": USUBJID,
    "SITEID": SITEID,
    "PARAMCD": Variable("the code of the parameter"),
    "PARAM": Variable("the name of the parameter"),
    "AVAL": Variable("(ADT - STARTDT + 1) / 30.4375"),
    "AVALU": Variable("always MONTHS"),
    # 2 is kept apart, because such patients are censored on day 1 and tell nothing.
    "CNSR": Variable("0 event, 1 end of what is known, 2 no assessment after time 0", (8,)),
    "EVNTDESC": Variable("what happened", (8,)),
    "CNSDTDSC": Variable("what the date of censoring is", (8, 10)),
    "STARTDT": Variable("the day from which time is counted", (8, 9), flag="STARTDTF"),
    "STARTDTF": imputed("STARTDT"),
    "ADT": Variable("the day of the event or of censoring", flag="ADTF"),
    "ADTF": imputed("ADT"),
    "SRCDOM": Variable("the resource type of the source of ADT"),
    "SRCVAR": Variable("the element of the source of ADT"),
    "SRCSEQ": Variable("the number of the source of ADT"),
    "SRCREF": SRCREF,
    "DCUTDT": DCUTDT,
}

EVENT_DATE = ("date", "detected", "recordedDate")
ADAE: dict[str, Variable] = {
    "STUDYID": STUDYID,
    "USUBJID": USUBJID,
    "SITEID": SITEID,
    "AEDECOD": Variable(
        "the preferred term of MedDRA, or the own term of a MedDRA code that the map does not have",
        (15,),
        evidence=(*event("event.coding", coded=("event", ("ae-term", "meddra-term"))), *OTHER_EVENTS),
    ),
    "AEPTCD": Variable(
        "the MedDRA code as recorded, a preferred or lowest level term",
        (15,),
        evidence=event("event.coding", coded=("event", ("meddra-term",))),
    ),
    # Free text may name a person.
    "AETERM": Variable("the term as reported; never published", (15,), evidence=event("event.text")),
    # The classes of MedDRA are licensed, so that no file of them is shipped.
    "AEBODSYS": Variable("blank in this version"),
    "AETOXGR": Variable("as ATOXGR", (15,), of=("ATOXGR",)),
    "ATOXGR": Variable(
        "the CTCAE grade, 1 to 5, the worst that is given; grade 0 is no event",
        (15,),
        evidence=(
            *event("extension (grade)", coded=("grade", ("ctcae-grade",))),
            *event("severity", coded=("severity", ("ctcae-grade",))),
            *event("seriousness", coded=("seriousness", ("ctcae-grade",))),
            *event("event (term and grade at once)"),
        ),
    ),
    "ATOXGRN": Variable("ATOXGR as a number", (15,), of=("ATOXGR",)),
    "AESER": Variable(
        "Y or N, blank where it is not recorded",
        (15,),
        evidence=event("seriousness", coded=("seriousness", ("ae-seriousness",))),
    ),
    # Causality of another drug says nothing of the study drug.
    "AREL": Variable(
        "RELATED where the study drug is possible or stronger as a cause, else NOT RELATED, blank where not assessed",
        (15,),
        evidence=event("suspectEntity.causality", coded=("causality", ("ae-causality",))),
    ),
    "ASTDT": Variable("the day on which it began", (15,), evidence=event(*EVENT_DATE), flag="ASTDTF"),
    "ASTDTF": imputed("ASTDT"),
    "AENDT": Variable("blank: R4 has no end of an adverse event"),
    "TRTEMFL": Variable(
        "Y where it began up to the window after the last dose of its phase, and is worse than before time 0",
        (15,),
        ("safety.window_days",),
        event(*EVENT_DATE),
        ("TRTSDT", "AP01EDT", "AP02EDT"),
    ),
    # 9, so that the gap after surgery sorts behind the phases of treatment.
    "APERIOD": Variable("the phase by number: 1, 9 after surgery, 2 adjuvant", (15,), of=("SURGDT", "AP02SDT")),
    "APERIODC": Variable(f"the phase in which it began: {', '.join(adae.PERIODS.values())}", (15,), of=("APERIOD",)),
    "AOCC01FL": Variable("Y for the worst grade of a patient, term and phase", (15,), of=("ATOXGR", "APERIOD")),
    "DCUTDT": DCUTDT,
    "SRCREF": SRCREF,
}

VARIABLES: dict[Table, dict[str, Variable]] = {"ADSL": ADSL, "ADRS": ADRS, "ADTTE": ADTTE, "ADAE": ADAE}
OF_PARAMETERS: dict[Table, dict[str, Variable]] = {"ADRS": RESPONSES, "ADTTE": TIMES}

# The criteria of enrolment in the order in which SCRFRS names the first that is failed: how its words begin, the
# variable that it is about, and the setting without which it is no criterion
CRITERIA: tuple[tuple[str, str, str | None], ...] = (
    ("NO USABLE PATIENT RECORD", "SUBJID", None),
    ("NO CONFIRMED NSCLC", "ITTFL", None),
    ("STAGE", "STAGEBL", None),
    ("ALK STATUS", "ALKSTAT", None),
    ("ECOG", "ECOGBL", "eligibility.ecog_max"),
    ("NO DOSE OF THE STUDY DRUG", "TRTSDT", None),
    ("PRIOR SYSTEMIC TREATMENT", "SCRFRS", "eligibility.prior_systemic_treatment"),
)

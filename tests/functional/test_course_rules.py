"""Exposure, surgery, death and impossible dates, each on a patient invented for it; expectations worked out by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from tests.cohorts import Ran, pseudonym, run_folder
from tests.invented import RXNORM, SCT, START, Invented, Resource, concept, day, eligible, operated, write

ALECTINIB, ONDANSETRON = "1727479", "312086"
PROGRESSED, REFUSED = "419835002", "105480006"
PCS = "http://hl7.org/fhir/sid/icd-10-pcs"
DISPENSE, STATEMENT, ADMINISTRATION = "MedicationDispense", "MedicationStatement", "MedicationAdministration"
CUTOFF = date(2024, 12, 1)


def drug(code: str = ALECTINIB) -> Resource:
    return {"medicationCodeableConcept": concept(RXNORM, code)}


def undosed(identifier: str) -> Invented:
    return Invented(identifier).person().condition().staged().alk_positive()


def dispensed(
    patient: Invented, at: int | str, days: int | None = 28, status: str = "completed", **more: Any
) -> Invented:
    supply = {} if days is None else {"daysSupply": {"value": days, "code": "d"}}
    when = day(at) if isinstance(at, int) else at
    return patient.add(DISPENSE, status=status, whenHandedOver=when, **(drug() | supply | more))


def stated(patient: Invented, start: int, end: int | None, status: str = "completed", **more: Any) -> Invented:
    period = {"start": day(start)} | ({} if end is None else {"end": day(end)})
    return patient.add(STATEMENT, status=status, effectivePeriod=period, **(drug() | more))


def given(patient: Invented, **elements: Any) -> Invented:
    return patient.add(
        ADMINISTRATION, status="completed", effectivePeriod={"start": day(0), "end": day(55)}, **elements
    )


def prevented(patient: Invented, status: str, reason: str, at: int | None = 70, code: str = "359623004") -> Invented:
    when = {} if at is None else {"performedDateTime": day(at)}
    return patient.add("Procedure", status=status, code=concept(SCT, code), statusReason=concept(SCT, reason), **when)


def dead(patient: Invented, **elements: Any) -> Invented:
    patient.resources[0] |= elements
    return patient


def at_death(patient: Invented, when: str) -> Invented:
    return patient.observation(concept(SCT, "184305005"), when, valueCodeableConcept=concept("icd", "C34.1"))


def contained(code: str) -> Resource:
    both = [("a", ALECTINIB), ("b", ONDANSETRON)]
    kept = [{"resourceType": "Medication", "id": name, "code": concept(RXNORM, each)} for name, each in both]
    return {"contained": kept, "medicationReference": {"reference": "#a" if code == ALECTINIB else "#b"}}


MEDICATION = {"resourceType": "Medication", "id": "capsules", "code": concept(RXNORM, ALECTINIB)}
PATIENTS = [
    # dispenses
    dispensed(dispensed(dispensed(undosed("disp"), 0), 28).procedure(70), 100),
    dispensed(dispensed(undosed("disp-early"), 0), 25).procedure(70),
    dispensed(undosed("disp-quantity"), 0, None, quantity={"value": 448, "unit": "capsule"}).procedure(70),
    dispensed(undosed("disp-weeks"), 0, None, daysSupply={"value": 8, "code": "wk"}).procedure(70),
    dispensed(undosed("disp-mass"), 0, None, quantity={"value": 448, "code": "mg"}).procedure(70),
    dispensed(undosed("disp-over"), 0, 84).procedure(70),
    dead(dispensed(undosed("disp-death"), 0, 84), deceasedDateTime=day(30)),
    dispensed(undosed("disp-declined"), 0, status="declined").add("MedicationRequest", status="active", **drug()),
    # statements
    stated(stated(undosed("stated"), 0, 55).procedure(70), 100, None, "active"),
    stated(undosed("stated-spanning"), 0, 200).procedure(70),
    stated(undosed("stated-foreseen"), 0, None, "active", dateAsserted=day(0)).procedure(70),
    stated(undosed("stated-not-taken"), 0, 55, "not-taken"),
    # several sources
    dispensed(dispensed(dispensed(operated("mixed"), -3), 26), 100),
    given(undosed("by-reference"), medicationReference={"reference": "Medication/capsules"}),
    given(undosed("by-contained"), **contained(ALECTINIB)),
    given(undosed("by-contained-other"), **contained(ONDANSETRON)),
    # dates of doses
    undosed("dose-reversed").dose(0, -10).dose(20, 55),
    operated("dose-unclear").dose(0, effectiveDateTime="2023-03"),  # day 70 is 13 March
    undosed("dose-before").dose(20, 75).dose(0, effectiveDateTime="2022-12"),
    undosed("dose-within").dose(20, 75).dose(0, effectiveDateTime="2023-01"),  # day 20 is 22 January
    # surgery
    prevented(eligible("stopped"), "stopped", PROGRESSED),
    prevented(eligible("not-done-undated"), "not-done", PROGRESSED, at=None),
    prevented(eligible("not-done-else"), "not-done", PROGRESSED, code="10847001"),  # bronchoscopy
    prevented(prevented(eligible("not-done-twice"), "not-done", PROGRESSED, 60), "not-done", REFUSED, 80),
    prevented(eligible("not-done-earlier"), "not-done", REFUSED, -30),
    eligible("surgery-month").add(
        "Procedure", status="completed", code=concept(SCT, "359623004"), performedDateTime="2023-03"
    ).viable(5, at=60).yp(at=60),  # 3 March
    eligible("surgery-lobes").procedure(70, (PCS, "0BTC0ZZ")).procedure(70, (PCS, "0BTD0ZZ")),
    eligible("surgery-unknown").procedure(70, ("http://fhir.hospital.example/op", "4711")),
    operated("surgery-blank"),
    Invented("surgery-first").person().condition(onsetDateTime=day(90)).staged().alk_positive().dose(0, 55)
    .procedure(70),
    # death
    at_death(operated("death-observed").status("359746009", 150), day(200)),
    dead(at_death(operated("death-twice"), day(200)), deceasedDateTime=day(210)),
    dead(at_death(operated("death-precise"), day(200)), deceasedDateTime="2023"),
    dead(at_death(operated("death-denied"), day(200)), deceasedBoolean=False),
    dead(operated("death-year"), deceasedDateTime="2024"),
    dead(operated("death-month-of-cut"), deceasedDateTime="2024-12"),
    dead(operated("death-far"), deceasedDateTime="0024-05-01"),
    dead(operated("death-before-dose"), deceasedDateTime=day(-3)),
    dead(operated("death-before-surgery"), deceasedDateTime=day(60)),
    eligible("fatal").event(40, "5"),
    eligible("fatal-outcome").event(
        40, "3", outcome=concept("http://terminology.hl7.org/CodeSystem/adverse-event-outcome", "fatal")
    ),
    # a progression in the month of surgery
    operated("progression-month").coded(("http://loinc.org", "97509-4"), (SCT, "419835002"), "2023-03"),
    # impossible birth
    dead(eligible("born-late"), birthDate="2030-01-01"),
    dead(eligible("born-far"), birthDate="1860-01-01"),
    # last contact
    dispensed(dispensed(undosed("alive"), 0), 28, 84),
    eligible("alive-month").event("2023-06", "1"),
]  # fmt: skip
# the date of the operation with a blank instead of T
next(r for p in PATIENTS if p.id == "surgery-blank" for r in p.resources if r["resourceType"] == "Procedure")[
    "performedDateTime"
] = f"{day(70)} 08:00:00"
PATIENTS[0].resources.append(MEDICATION)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = write(PATIENTS, tmp_path_factory.mktemp("invented"))
    return run_folder(tmp_path_factory.mktemp("course"), folder)


def of(ran: Ran, table: str, patient: str) -> pd.DataFrame:
    frame = ran.table(table)
    return frame[frame["USUBJID"] == f"alneo-milan-{pseudonym(patient)}"]


def subject(ran: Ran, patient: str) -> dict[str, Any]:
    (row,) = of(ran, "adsl", patient).to_dict("records")
    return row


def issues(ran: Ran, patient: str) -> set[str]:
    frame = of(ran, "quality_patients", patient)
    return {f"{row.DOMAIN}: {row.ISSUE}" for row in frame.itertuples()}


def since_start(value: date | None) -> int | None:
    return None if value is None else (value - START).days


END = (CUTOFF - START).days


@pytest.mark.parametrize(
    ("patient", "neoadjuvant", "adjuvant", "complete"),
    [
        ("disp", (0, 55, DISPENSE), (100, 127, DISPENSE), "Y"),
        ("disp-early", (0, 55, DISPENSE), None, "Y"),  # 28 days, and 28 more
        ("disp-quantity", (0, 55, DISPENSE), None, "Y"),  # 448 capsules, 8 a day
        ("disp-weeks", (0, 55, DISPENSE), None, "Y"),
        ("disp-mass", (0, 0, DISPENSE), None, "N"),
        ("disp-over", (0, 69, DISPENSE), None, "Y"),
        ("disp-death", (0, 30, DISPENSE), None, "N"),
        ("stated", (0, 55, STATEMENT), (100, END, STATEMENT), "Y"),
        ("stated-spanning", (0, 69, STATEMENT), (71, 200, STATEMENT), "Y"),
        ("stated-foreseen", (0, 69, STATEMENT), None, "Y"),
        ("mixed", (0, 55, ADMINISTRATION), (100, 127, DISPENSE), "Y"),
        ("by-reference", (0, 55, ADMINISTRATION), None, "Y"),
        ("by-contained", (0, 55, ADMINISTRATION), None, "Y"),
        ("dose-reversed", (0, 55, ADMINISTRATION), None, "N"),
        ("dose-unclear", (0, 55, ADMINISTRATION), None, "Y"),
        ("dose-before", (-18, 75, ADMINISTRATION), None, "Y"),  # 15 December
        ("dose-within", (20, 75, ADMINISTRATION), None, "Y"),
    ],
)
def test_exposure(
    ran: Ran, patient: str, neoadjuvant: tuple[int, int, str], adjuvant: tuple[int, int, str] | None, complete: str
) -> None:
    row = subject(ran, patient)
    assert (since_start(row["AP01SDT"]), since_start(row["AP01EDT"]), row["AP01EXSRC"]) == neoadjuvant
    assert since_start(row["TRTSDT"]) == neoadjuvant[0]
    found = (since_start(row["AP02SDT"]), since_start(row["AP02EDT"]), row["AP02EXSRC"])
    assert found == (adjuvant or (None, None, None))
    assert row["NEOCMPFL"] == complete
    assert row["ITTFL"] == "Y"


@pytest.mark.parametrize("patient", ["disp-declined", "stated-not-taken", "by-contained-other"])
def test_no_dose(ran: Ran, patient: str) -> None:
    assert subject(ran, patient)["SCRFRS"] == "NO DOSE OF THE STUDY DRUG"


@pytest.mark.parametrize(
    ("patient", "flags"),
    [
        ("dose-before", ("D", None, None)),
        ("dose-within", (None, None, None)),
        ("surgery-month", (None, None, "D")),
        ("disp", (None, None, None)),
    ],
)
def test_every_imputed_date_has_its_flag(ran: Ran, patient: str, flags: tuple[str | None, ...]) -> None:
    row = subject(ran, patient)
    assert (row["TRTSDTF"], row["TRTEDTF"], row["SURGDTF"]) == flags
    assert row["AP01SDTF"] == row["TRTSDTF"]
    starts = of(ran, "adtte", patient).set_index("PARAMCD")["STARTDTF"]
    assert (starts["OS"], starts["EFS"]) == (row["TRTSDTF"], row["TRTSDTF"])
    if row["SURGDT"] is not None:
        assert of(ran, "adtte", patient).set_index("PARAMCD").loc["TTSURG", "ADTF"] == row["SURGDTF"]


@pytest.mark.parametrize(
    ("patient", "issue"),
    [
        ("disp", "ADSL: neoadjuvant exposure from MedicationDispense"),
        ("disp", "ADSL: adjuvant exposure from MedicationDispense"),
        ("stated", "ADSL: adjuvant exposure from MedicationStatement"),
        ("mixed", "ADSL: adjuvant exposure from MedicationDispense"),
        ("mixed", "MedicationDispense: not used beside a more direct record of the same phase"),
        ("disp-mass", "MedicationDispense: no days of supply that can be read: one day of exposure"),
        ("disp-over", "MedicationDispense: supply reaches beyond surgery: not carried over"),
        ("disp-declined", "MedicationDispense: status not usable"),
        ("stated-not-taken", "MedicationStatement: status not usable"),
        ("stated-spanning", "MedicationStatement: spans surgery: split at its day"),
        ("dose-reversed", "MedicationAdministration: conflict: end before start, one day of exposure"),
        ("dose-unclear", "ADSL: dose on a partial date, before or after surgery: in neither phase"),
        ("surgery-unknown", "Procedure: enrolled without a resection: procedure after time 0 that is not understood"),
        ("surgery-first", "ADSL: conflict: surgery before the onset of the cancer"),
        ("death-twice", "Patient: conflict: two dates of death"),
        ("death-denied", "Patient: conflict: recorded as alive and as dead"),
        ("death-year", "Patient: date of death partial, imputed"),
        ("death-year", "Patient: date of death partial, before or after the data cut"),
        ("death-month-of-cut", "Patient: date of death partial, before or after the data cut"),
        ("death-far", "Patient: death without a date"),
        ("death-before-dose", "Patient: conflict: death before the first dose"),
        ("death-before-dose", "ADTTE: OS not evaluable: death before the first dose"),
        ("death-before-dose", "ADTTE: EFS not evaluable: death before the first dose"),
        ("death-before-surgery", "ADTTE: OS not evaluable: death before the surgery"),
        ("death-before-surgery", "Patient: conflict: death before the last contact"),
        (
            "progression-month",
            "ADTTE: progression on a partial date, before or after the first dose or surgery: the imputed day decides",
        ),
        ("fatal", "AdverseEvent: conflict: fatal adverse event, no death recorded"),
        ("fatal-outcome", "AdverseEvent: conflict: fatal adverse event, no death recorded"),
        ("born-late", "ADSL: AGE not evaluable: birth after time 0, or more than 120 years before"),
        ("born-far", "Patient: birth date not readable"),
    ],
)
def test_what_was_assumed_or_contradicts_itself_is_told(ran: Ran, patient: str, issue: str) -> None:
    assert issue in issues(ran, patient)


def test_nothing_is_told_of_a_course_without_a_doubt(ran: Ran) -> None:
    assert not {issue for issue in issues(ran, "by-reference") if not issue.startswith("ADSL: enrolled, no baseline")}


@pytest.mark.parametrize(
    ("patient", "reason", "efs"),
    [
        ("stopped", "PROGRESSION", ("PROGRESSION", 0, 70)),
        ("not-done-undated", "PROGRESSION", ("NO EVENT", 2, 0)),
        ("not-done-else", "OTHER", ("NO EVENT", 2, 0)),
        ("not-done-twice", "PATIENT REFUSAL", ("PROGRESSION", 0, 60)),
        ("not-done-earlier", "OTHER", ("NO EVENT", 2, 0)),
    ],
)
def test_surgery_that_did_not_happen(ran: Ran, patient: str, reason: str, efs: tuple[str, int, int]) -> None:
    row = subject(ran, patient)
    assert (row["SURGDT"], row["NOSURGRS"]) == (None, reason)
    found = of(ran, "adtte", patient).set_index("PARAMCD").loc["EFS"]
    assert (found["EVNTDESC"], found["CNSR"], since_start(found["ADT"])) == efs


def test_a_resection_that_was_given_up_is_the_source_of_its_event(ran: Ran) -> None:
    row = of(ran, "adtte", "stopped").set_index("PARAMCD").loc["EFS"]
    assert (row["SRCDOM"], row["SRCVAR"]) == ("Procedure", "statusReason")
    assert list(row["SRCREF"]) == [f"ADT Procedure/{pseudonym('stopped-procedure-0')}"]


@pytest.mark.parametrize(
    ("patient", "on", "kind"),
    [
        ("surgery-month", date(2023, 3, 15), "LOBECTOMY"),
        ("surgery-lobes", START + timedelta(days=70), "OTHER"),
        ("surgery-blank", START + timedelta(days=70), "LOBECTOMY"),
        ("surgery-unknown", None, None),
    ],
)
def test_surgery(ran: Ran, patient: str, on: date | None, kind: str | None) -> None:
    row = subject(ran, patient)
    assert (row["SURGDT"], row["SURGTYPE"]) == (on, kind)


def test_what_is_found_in_the_month_of_surgery_is_found_after_it(ran: Ran) -> None:
    responses = of(ran, "adrs", "surgery-month").set_index("PARAMCD")["AVALC"]
    assert responses["MPR"] == "Y"


@pytest.mark.parametrize(
    ("patient", "flag", "on", "imputed"),
    [
        ("death-observed", "Y", date(2023, 7, 21), None),
        ("death-twice", "Y", date(2023, 7, 31), None),  # both exact: the Patient's
        ("death-precise", "Y", date(2023, 7, 21), None),
        ("death-denied", "Y", date(2023, 7, 21), None),
        ("death-year", "Y", date(2024, 7, 1), "M"),
        ("death-month-of-cut", None, None, None),
        ("death-far", "Y", None, None),
        ("fatal", None, None, None),
    ],
)
def test_death(ran: Ran, patient: str, flag: str | None, on: date | None, imputed: str | None) -> None:
    row = subject(ran, patient)
    assert (row["DTHFL"], row["DTHDT"], row["DTHDTF"]) == (flag, on, imputed)


def test_an_observed_death_is_the_source_of_its_event(ran: Ran) -> None:
    row = of(ran, "adtte", "death-observed").set_index("PARAMCD").loc["OS"]
    assert (row["EVNTDESC"], row["SRCDOM"], row["SRCVAR"]) == ("DEATH", "Observation", "effective[x]")
    assert since_start(subject(ran, "death-observed")["LSTALVDT"]) == 150


@pytest.mark.parametrize("patient", ["death-before-dose", "death-before-surgery"])
def test_impossible_dates_set_aside_the_times_of_their_patient_only(ran: Ran, patient: str) -> None:
    assert subject(ran, patient)["DTHFL"] == "Y"
    assert of(ran, "adtte", patient).empty
    released = {each.id: each for each in ran.released.survival}["survival.os"]
    enrolled = ran.released.population_sizes["enrolled"]
    assert released.n == enrolled - 2


@pytest.mark.parametrize("patient", ["born-late", "born-far"])
def test_an_impossible_age_is_blank(ran: Ran, patient: str) -> None:
    assert pd.isna(subject(ran, patient)["AGE"])


@pytest.mark.parametrize(("patient", "on"), [("alive", 28), ("alive-month", 150)])
def test_last_known_alive_is_what_is_sure(ran: Ran, patient: str, on: int) -> None:
    """The day of the last dispense, not the last day of its supply; the first day of a month (1 June is day 150)."""
    assert since_start(subject(ran, patient)["LSTALVDT"]) == on

"""The rules of docs/endpoint-rules.md, each on a patient invented for it; what is expected is worked out by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.study import load_study
from tests.cohorts import Ran, pseudonym, run_folder
from tests.invented import LOINC, SCT, START, Invented, concept, day, eligible, operated, write

CR, PR, SD, PD = "C159715", "C159547", "C159546", "C159716"
PCS = "http://www.cms.gov/Medicare/Coding/ICD10"
YPT0, YPT1A, YPN0, YPN1, YPNX = "1228863001", "1228872009", "1229878000", "1229884002", "1229877005"
RESIDUAL = (SCT, "17964000")
CT4 = "1228944003"
ECOG = concept(LOINC, "89247-1")
CISPLATIN = concept("http://www.whocc.no/atc", "L01XA01")

PATIENTS = [
    # MPR: viable tumour of at most 10 % in the primary and the nodes
    operated("mpr-10").viable(10).yp(),
    operated("mpr-10.1").viable(10.1).yp(),
    operated("mpr-below-5").viable(5, comparator="<").yp(),
    operated("mpr-below-20").viable(20, comparator="<").yp(),
    operated("mpr-above-10").viable(10, comparator=">").yp(),
    operated("mpr-fraction").viable(None, value=0.05, code="1").yp(),
    operated("mpr-half").viable(None, value=0.5, code="1").yp(),
    operated("mpr-other-unit").viable(None, value=5, code="mm").yp(),
    operated("mpr-bicr").viable(5, at=90).viable(30, at=80, central=True).yp(),
    operated("mpr-nodes-unread").viable(5).yp(n=YPN1),
    operated("mpr-nodes-read").viable(5).viable(8, nodes=True).yp(n=YPN1),
    operated("mpr-nodes-full").viable(5).viable(50, nodes=True).yp(n=YPN1),
    operated("mpr-before-surgery").viable(5, at=60).yp(),
    operated("mpr-cancelled").observation(
        concept("http://fhir.hospital.example/CodeSystem/pathology", "residual-viable-tumour"),
        75, status="cancelled", valueQuantity={"value": 0, "code": "%"},
    ),
    # pCR: 0 % and ypT0 ypN0
    operated("pcr").viable(0).yp(t=YPT0),
    operated("pcr-node").viable(0).yp(t=YPT0, n=YPN1),
    operated("pcr-t1a").viable(0).yp(t=YPT1A),
    # nodal downstaging
    operated("down").yp(n=YPN1),
    operated("down-nx").yp(n=YPNX),
    # best response before surgery
    operated("bor-best").recist(SD, 28).recist(PR, 56),
    operated("bor-after-pd").recist(PD, 28).recist(CR, 56),
    operated("bor-late").recist(SD, 56).recist(CR, 100),
    eligible("bor-none"),
    # surgery
    operated("surgery-diagnostic").procedure(-10, (SCT, "49795001")),
    eligible("surgery-aborted").procedure(70, status="stopped"),
    eligible("surgery-two-lobes").procedure(70, (PCS, "0BTC0ZZ")).procedure(70, (PCS, "0BTD0ZZ")),
    eligible("surgery-one-lobe-twice").procedure(70, (PCS, "0BTC0ZZ")).procedure(70, (PCS, "0BTC4ZZ")),
    operated("surgery-completion").procedure(300, (SCT, "49795001")),
    # margins
    operated("margin-worst").coded(RESIDUAL, (SCT, "258254000"), 75).coded(RESIDUAL, (SCT, "278271003"), 76),
    operated("margin-rx").coded(RESIDUAL, (SCT, "258253006"), 75),
    # exposure
    Invented("dose-short").person().condition().staged().alk_positive().dose(0, 54).procedure(70),
    Invented("dose-daily").person().condition().staged().alk_positive().dose(0).dose(7).dose(14).dose(48, 55),
    Invented("dose-gap-7").person().condition().staged().alk_positive().dose(0, 20).dose(28, 55).procedure(70),
    Invented("dose-gap-8").person().condition().staged().alk_positive().dose(0, 20).dose(29, 56).procedure(70),
    operated("dose-running").dose(100, None, "in-progress", effectivePeriod={"start": day(100)}),
    # eligibility
    Invented("alk-conflict").person().condition().condition("830055006").staged().alk_positive().dose(0, 55),
    Invented("stage-late").person().condition().alk_positive().dose(0, 55).coded((SCT, "399537006"), ("x", "IIIA"), -9),
    # stage IIIA with cT4 cN2, which is IIIB by AJCC 8; the 9th version groups otherwise
    Invented("stage-8").person().condition().staged("IIIA", CT4, edition="897275008").alk_positive().dose(0, 55),
    Invented("stage-9").person().condition().staged("IIIA", CT4, edition="1269566009").alk_positive().dose(0, 55),
    Invented("stage-none").person().condition().staged("IIIA", CT4).alk_positive().dose(0, 55),
    Invented("stage-agrees").person().condition().staged("IIIA", edition="897275008").alk_positive().dose(0, 55),
    Invented("child").person(birthDate="2001").condition().staged().alk_positive().dose(0, 55),
    # criteria of ALNEO: ECOG of at most 1, no systemic treatment in the year before the first dose
    eligible("ecog-1").observation(ECOG, -3, valueInteger=1),
    eligible("ecog-2").observation(ECOG, -3, valueInteger=2),
    eligible("ecog-2-later").observation(ECOG, 10, valueInteger=2),
    eligible("chemo-before").dose(-180, medicationCodeableConcept=CISPLATIN),
    eligible("chemo-course").dose(-420, -300, medicationCodeableConcept=CISPLATIN),
    eligible("chemo-old").dose(-400, medicationCodeableConcept=CISPLATIN),
    eligible("chemo-during").dose(10, medicationCodeableConcept=CISPLATIN),
    eligible("chemo-open").dose(0, medicationCodeableConcept=CISPLATIN, effectiveDateTime="2023-01"),
    eligible("chemo-not-done").dose(-180, status="not-done", medicationCodeableConcept=CISPLATIN),
    eligible("chemo-procedure").procedure(-100, (SCT, "367336001")),
    # time to event
    operated("efs-recur").status("359746009", 150).status("1259237005", 200),
    operated("efs-worsened").status("359746009", 150).status("271299001", 200),
    operated("efs-second-cancer").condition("254637007", onsetDateTime=day(250)).status("359746009", 150),
    eligible("efs-pd").recist(PD, 50).recist(PD, 90),
    operated("efs-unassessed"),
    operated("death-month").status("359746009", 150),
    operated("death-unknown").status("359746009", 150),
    operated("death-partial-early").status("359746009", 150),
    # adverse events
    operated("ae-window").event(85, "2").event(86, "3", "10001551"),
    operated("ae-gap").event(80, "3").dose(100, 127),
    operated("ae-baseline").event(-5, "2").event(5, "2").event(10, "3", "10001551").event(-5, "1", "10001551"),
    operated("ae-worst").event(5, "1").event(10, "3").event(20, "2"),
    operated("ae-month").event("2023-01", "2"),
    operated("ae-potential").event(5, "4", actuality="potential"),
    operated("ae-ungraded").event(5, "1", extension=[]),
]  # fmt: skip


def dead(identifier: str, **elements: Any) -> None:
    person = next(p for p in PATIENTS if p.id == identifier).resources[0]
    person |= elements


dead("death-month", deceasedDateTime="2023-08")
dead("death-unknown", deceasedBoolean=True)
dead("death-partial-early", deceasedDateTime="2023-05")  # the 15th is before the visit of day 150, 2023-06-01


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = write(PATIENTS, tmp_path_factory.mktemp("invented"))
    return run_folder(tmp_path_factory.mktemp("rules"), folder)


def rows(ran: Ran, name: str, patient: str, **where: str) -> pd.DataFrame:
    frame = ran.table(name)
    kept = frame[frame["USUBJID"] == f"alneo-milan-{pseudonym(patient)}"]
    for column, value in where.items():
        kept = kept[kept[column] == value]
    return kept


def answer(ran: Ran, patient: str, paramcd: str) -> tuple[str, str | None]:
    (row,) = rows(ran, "adrs", patient, PARAMCD=paramcd, ANL01FL="Y").to_dict("records")
    return row["AVALC"], row["DTYPE"]


def time(ran: Ran, patient: str, paramcd: str) -> tuple[str, int, int]:
    """(what happened, CNSR, days from day 0)."""
    (row,) = rows(ran, "adtte", patient, PARAMCD=paramcd).to_dict("records")
    return row["EVNTDESC"], row["CNSR"], (row["ADT"] - START).days


def subject(ran: Ran, patient: str) -> dict[str, Any]:
    (row,) = rows(ran, "adsl", patient).to_dict("records")
    return row


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        ("mpr-10", ("Y", None)),
        ("mpr-10.1", ("N", None)),
        ("mpr-below-5", ("Y", None)),
        ("mpr-below-20", ("N", "NONRESP")),
        ("mpr-above-10", ("N", None)),
        ("mpr-fraction", ("Y", None)),
        ("mpr-half", ("N", None)),
        ("mpr-other-unit", ("N", "NONRESP")),
        ("mpr-bicr", ("N", None)),
        ("mpr-nodes-unread", ("N", "NONRESP")),
        ("mpr-nodes-read", ("Y", None)),
        ("mpr-nodes-full", ("N", None)),
        ("mpr-before-surgery", ("N", "NONRESP")),
        ("mpr-cancelled", ("N", "NONRESP")),
        ("bor-none", ("N", "NONRESP")),
    ],
)
def test_major_pathological_response(ran: Ran, patient: str, expected: tuple[str, str | None]) -> None:
    assert answer(ran, patient, "MPR") == expected


@pytest.mark.parametrize(("patient", "expected"), [("pcr", "Y"), ("pcr-node", "N"), ("pcr-t1a", "N"), ("mpr-10", "N")])
def test_pathological_complete_response(ran: Ran, patient: str, expected: str) -> None:
    assert answer(ran, patient, "PCR")[0] == expected


def test_no_viable_tumour_but_nodes_with_tumour_is_a_conflict_that_is_told(ran: Ran) -> None:
    assert ran.quality()["ADRS", "conflict: no viable tumour, but nodes with tumour"] == 1


@pytest.mark.parametrize(
    ("patient", "expected"), [("down", ("Y", None)), ("down-nx", ("N", "NONRESP")), ("mpr-10", ("Y", None))]
)
def test_nodal_downstaging(ran: Ran, patient: str, expected: tuple[str, str | None]) -> None:
    assert answer(ran, patient, "NDOWN") == expected


@pytest.mark.parametrize(
    ("patient", "expected"), [("bor-best", "PR"), ("bor-after-pd", "PD"), ("bor-late", "SD"), ("bor-none", "NE")]
)
def test_best_overall_response(ran: Ran, patient: str, expected: str) -> None:
    assert answer(ran, patient, "BOR")[0] == expected


@pytest.mark.parametrize(
    ("patient", "kind", "on"),
    [
        ("surgery-diagnostic", "LOBECTOMY", 70),
        ("surgery-aborted", None, None),
        ("surgery-two-lobes", "OTHER", 70),
        ("surgery-one-lobe-twice", "LOBECTOMY", 70),
        ("surgery-completion", "LOBECTOMY", 70),
    ],
)
def test_surgery(ran: Ran, patient: str, kind: str | None, on: int | None) -> None:
    row = subject(ran, patient)
    assert row["SURGTYPE"] == kind
    assert row["SURGDT"] == (None if on is None else START + timedelta(days=on))


@pytest.mark.parametrize(("patient", "expected"), [("margin-worst", "N"), ("margin-rx", "N")])
def test_margin(ran: Ran, patient: str, expected: str) -> None:
    assert answer(ran, patient, "R0")[0] == expected


@pytest.mark.parametrize(("patient", "expected"), [("dose-short", "N"), ("dose-daily", "N"), ("mpr-10", "Y")])
def test_neoadjuvant_course(ran: Ran, patient: str, expected: str) -> None:
    """55 days are not two cycles of 28; single days a week apart are exposure, a pause of 33 days is not."""
    assert subject(ran, patient)["NEOCMPFL"] == expected


@pytest.mark.parametrize(("patient", "expected"), [("dose-gap-7", "Y"), ("dose-gap-8", "N")])
def test_a_gap_of_seven_days_is_exposure_and_one_of_eight_is_not(ran: Ran, patient: str, expected: str) -> None:
    """21 + 7 + 28 days are two cycles of 28; with days 21 to 28 left out, 21 + 28 days are not."""
    assert subject(ran, patient)["NEOCMPFL"] == expected


@pytest.mark.parametrize(
    ("patient", "percent"), [("mpr-10", 10), ("mpr-10.1", 10.1), ("mpr-fraction", 5), ("mpr-half", 50)]
)
def test_residual_viable_tumour_is_in_percent_whatever_its_unit(ran: Ran, patient: str, percent: float) -> None:
    (row,) = rows(ran, "adrs", patient, PARAMCD="PVTPCT").to_dict("records")
    assert row["AVAL"] == pytest.approx(percent)


def test_a_running_dose_lasts_until_the_data_cut(ran: Ran) -> None:
    row = subject(ran, "dose-running")
    assert (row["AP02SDT"], row["AP02EDT"].isoformat()) == (START + timedelta(days=100), "2024-12-01")


@pytest.mark.parametrize(
    ("patient", "reason"),
    [
        ("alk-conflict", "ALK STATUS NOT ELIGIBLE"),
        ("stage-late", "STAGE UNKNOWN"),
        ("ecog-2", "ECOG NOT ELIGIBLE"),
        ("chemo-before", "PRIOR SYSTEMIC TREATMENT"),
        ("chemo-course", "PRIOR SYSTEMIC TREATMENT"),  # its last day is within the year
        ("chemo-procedure", "PRIOR SYSTEMIC TREATMENT"),
    ],
)
def test_who_is_not_enrolled_says_why(ran: Ran, patient: str, reason: str) -> None:
    row = subject(ran, patient)
    assert (row["ITTFL"], row["SCRFRS"]) == ("N", reason)


@pytest.mark.parametrize(
    "patient", ["ecog-1", "ecog-2-later", "chemo-old", "chemo-during", "chemo-open", "chemo-not-done"]
)
def test_what_does_not_exclude(ran: Ran, patient: str) -> None:
    row = subject(ran, patient)
    assert (row["ITTFL"], row["SCRFRS"]) == ("Y", None)


def test_treatment_that_may_be_from_before_is_told(ran: Ran) -> None:
    issue = "systemic treatment that may be from before the first dose, not taken as such"
    assert ran.quality()["MedicationAdministration", issue] == 1  # chemo-open


def test_a_study_decides_what_an_unknown_ecog_means_and_how_long_treatment_counts(tmp_path: Path) -> None:
    study = load_study("alneo")
    stricter = {"ecog_unknown": "exclude", "prior_systemic_days": None}
    changed = study.model_copy(update={"eligibility": study.eligibility.model_copy(update=stricter)})
    folder = write([p for p in PATIENTS if p.id in ("ecog-1", "chemo-during", "chemo-old")], tmp_path / "fhir")
    other = run_folder(tmp_path / "data", folder, changed)
    assert subject(other, "ecog-1")["ITTFL"] == "Y"
    assert subject(other, "chemo-during")["SCRFRS"] == "ECOG UNKNOWN"
    known = study.model_copy(update={"eligibility": study.eligibility.model_copy(update={"prior_systemic_days": None})})
    again = run_folder(tmp_path / "again", folder, known)
    assert subject(again, "chemo-old")["SCRFRS"] == "PRIOR SYSTEMIC TREATMENT"
    assert subject(again, "chemo-during")["ITTFL"] == "Y"


def test_stage_groups_are_compared_with_t_and_n_by_ajcc_8_only(ran: Ran) -> None:
    assert ran.quality()["ADSL", "conflict: stage group is not that of T and N (AJCC 8)"] == 1
    assert subject(ran, "stage-8")["STAGEBL"] == "IIIA"  # told, not corrected


def test_age_of_a_birth_year_alone_is_imputed_and_told(ran: Ran) -> None:
    assert subject(ran, "child")["AGE"] == 21  # born on 1 July 2001 by the rule, first dose on 2 January 2023
    assert ran.quality()["Patient", "birth date partial, age imputed"] == 1


@pytest.mark.parametrize(
    ("patient", "paramcd", "expected"),
    [
        ("efs-recur", "EFS", ("RECURRENCE", 0, 200)),
        ("efs-worsened", "EFS", ("NO EVENT", 1, 200)),
        ("efs-second-cancer", "EFS", ("NO EVENT", 1, 150)),
        ("efs-pd", "EFS", ("PROGRESSION", 0, 50)),
        ("efs-unassessed", "EFS", ("NO EVENT", 2, 0)),
        ("efs-recur", "OS", ("NO EVENT", 1, 200)),
        ("efs-unassessed", "OS", ("NO EVENT", 1, 70)),
        ("death-month", "OS", ("DEATH", 0, 225)),  # 2023-08-15
        ("death-partial-early", "OS", ("DEATH", 0, 150)),  # not before the last visit
    ],
)
def test_time_to_event(ran: Ran, patient: str, paramcd: str, expected: tuple[str, int, int]) -> None:
    assert time(ran, patient, paramcd) == expected


def test_a_death_without_a_date_is_no_censored_survivor(ran: Ran) -> None:
    row = subject(ran, "death-unknown")
    assert (row["DTHFL"], row["DTHDT"]) == ("Y", None)
    for paramcd in ("OS", "EFS"):
        (row,) = rows(ran, "adtte", "death-unknown", PARAMCD=paramcd).to_dict("records")
        assert (row["CNSR"], row["EVNTDESC"]) == (0, "DEATH")
        assert pd.isna(row["AVAL"])
        assert row["ADT"] is None
    assert ran.quality()["Patient", "death without a date"] == 1
    alive = {p.id: p for p in ran.released.proportions}["survival.alive"]
    assert alive.n - alive.x == 3
    survival = {s.id: s for s in ran.released.survival}["survival.os"]
    # all three deaths, the undated one on the day of last contact
    assert (survival.n, survival.events) == (alive.n, 3)


def events(ran: Ran, patient: str) -> list[tuple[str | None, str | None, float, str | None, str | None]]:
    frame = rows(ran, "adae", patient).sort_values(["ASTDT", "AEDECOD"])
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [(r["APERIODC"], r["AEDECOD"], r["ATOXGRN"], r["TRTEMFL"], r["AOCC01FL"]) for r in records]


ALT = "Alanine aminotransferase increased"


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        # the last neoadjuvant dose is on day 55: day 85 is within 30 days, day 86 is not
        ("ae-window", [("POST-SURGERY", "Diarrhoea", 2, "Y", "Y"), ("POST-SURGERY", ALT, 3, None, None)]),
        ("ae-gap", [("POST-SURGERY", "Diarrhoea", 3, "Y", "Y")]),
        ("ae-baseline", [
            (None, ALT, 1, None, None),
            (None, "Diarrhoea", 2, None, None),
            ("NEOADJUVANT", "Diarrhoea", 2, None, None),
            ("NEOADJUVANT", ALT, 3, "Y", "Y"),
        ]),
        ("ae-worst", [
            ("NEOADJUVANT", "Diarrhoea", 1, "Y", None),
            ("NEOADJUVANT", "Diarrhoea", 3, "Y", "Y"),
            ("NEOADJUVANT", "Diarrhoea", 2, "Y", None),
        ]),
        ("ae-potential", []),
        ("ae-ungraded", [("NEOADJUVANT", "Diarrhoea", None, "Y", "Y")]),
    ],
)  # fmt: skip
def test_adverse_events(ran: Ran, patient: str, expected: list[Any]) -> None:
    assert events(ran, patient) == expected


def test_a_partial_date_is_imputed_with_its_flag(ran: Ran) -> None:
    (row,) = rows(ran, "adae", "ae-month").to_dict("records")
    assert (row["ASTDT"].isoformat(), row["ASTDTF"]) == ("2023-01-15", "D")


def test_residual_tumour_is_an_event_where_the_study_says_so(ran: Ran, tmp_path: Path) -> None:
    assert time(ran, "margin-worst", "EFS") == ("NO EVENT", 2, 0)
    study = load_study("alneo")
    events = study.events.model_copy(update={"r1_r2_is_event": True})
    folder = write([p for p in PATIENTS if p.id.startswith("margin")], tmp_path / "fhir")
    other = run_folder(tmp_path / "data", folder, study.model_copy(update={"events": events}))
    assert time(other, "margin-worst", "EFS") == ("RESIDUAL TUMOUR", 0, 76)
    assert time(other, "margin-rx", "EFS") == ("NO EVENT", 2, 0)

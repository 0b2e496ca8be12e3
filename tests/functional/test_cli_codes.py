"""`periop codes` on a small hospital made by hand: what it lists, how often, in which order, and its stubs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.cohorts import KEY
from tests.compiled import compiled_once

LUNG = {"system": "http://snomed.info/sct", "code": "254637007"}
OWN = "https://rome.example/diagnoses"
ECOG = {"system": "http://loinc.org", "code": "89247-1"}


def resource(kind: str, number: int, patient: str, **content: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    return {"resourceType": kind, "id": f"{kind.lower()}-{number}", **subject, **content}


def hospital() -> Iterable[dict[str, Any]]:
    """Two patients: `known` has a lung cancer that is understood, `own` has one by a code of the hospital."""
    yield from ({"resourceType": "Patient", "id": each} for each in ("known", "own"))
    yield resource("Condition", 1, "known", code={"coding": [LUNG]}, onsetDateTime="2022-01-01")
    own = {"coding": [{"system": OWN, "code": "LC", "display": "Adenocarcinoma of the lung"}]}
    yield resource("Condition", 2, "own", code=own)
    # A coding of the hospital beside one that is understood: the concept is understood.
    yield resource("Condition", 3, "own", code={"coding": [{"system": OWN, "code": "x"}, LUNG]})
    yield resource("Condition", 4, "own", code={"text": "Gicht"})
    for number, said in enumerate(("EINS", "eins ", "Eins", "zwei")):
        value = {"valueCodeableConcept": {"text": said}}
        yield resource("Observation", number, "known", status="final", code={"coding": [ECOG]}, **value)
    noise = {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]}
    for number in range(10, 15):
        yield resource("Observation", number, "own", status="final", code=noise, valueInteger=14)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    (folder / "fhir").mkdir()
    by_type: dict[str, list[str]] = {}
    for each in hospital():
        by_type.setdefault(each["resourceType"], []).append(json.dumps(each))
    for kind, lines in by_type.items():
        (folder / "fhir" / f"{kind}.ndjson").write_text("\n".join(lines))
    (folder / "periop.toml").write_text(
        'data_dir = "data"\n[[sites]]\nname = "rome"\nkind = "folder"\npath = "fhir"\n'
        '[mapping]\nterminology = ["terminology"]\n'
    )
    (folder / "terminology").mkdir()
    assert run(folder, "sync")[0] == 0
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    session = Session(io.StringIO(), io.StringIO(), {"PERIOP_PSEUDONYM_KEY": KEY})
    code = main(["--config", str(folder / "periop.toml"), *arguments], session)
    return code, session.stdout.getvalue() + session.stderr.getvalue()  # type: ignore[attr-defined]


def listed(folder: Path, *arguments: str) -> dict[str, Any]:
    session = Session(io.StringIO(), io.StringIO(), {"PERIOP_PSEUDONYM_KEY": KEY})
    assert main(["--config", str(folder / "periop.toml"), "codes", "--json", *arguments], session) == 0
    found: dict[str, Any] = json.loads(session.stdout.getvalue())  # type: ignore[attr-defined]
    return found


def test_what_is_not_understood_is_listed_with_its_numbers_the_most_frequent_first(found: dict[str, Any]) -> None:
    shown = [
        (each["element"], each["code"] or each["text"].strip().lower(), each["resources"], each["patients"])
        for each in found["codes"]
    ]
    assert shown == [
        ("Observation.code", "718-7", 5, 1),
        ("Observation.value", "eins", 3, 1),
        ("Condition.code", "gicht", 1, 1),
        ("Condition.code", "LC", 1, 1),
        ("Observation.value", "zwei", 1, 1),
    ]


def test_the_condition_of_who_is_not_screened_is_listed_with_what_it_resembles(found: dict[str, Any]) -> None:
    code = next(each for each in found["codes"] if each["code"] == "LC")
    assert (code["system"], code["display"], code["text"]) == (OWN, "Adenocarcinoma of the lung", None)
    assert code["resembles"]["name"] == "nsclc"
    assert 0.5 < code["resembles"]["similarity"] <= 1


def test_an_answer_to_a_known_question_names_the_question(found: dict[str, Any]) -> None:
    answers = [each["answers"] for each in found["codes"] if each["element"] == "Observation.value"]
    assert answers == ["ecog-code", "ecog-code"]


def test_the_share_of_each_element_that_is_understood(found: dict[str, Any]) -> None:
    shares = {each["element"]: (each["understood"], each["resources"]) for each in found["elements"]}
    assert shares == {"Condition.code": (2, 4), "Observation.code": (4, 9), "Observation.value": (0, 4)}


def test_the_text_says_that_it_stays_inside(folder: Path) -> None:
    code, text = run(folder, "codes")
    assert code == 0
    assert text.startswith("For the inside of the hospital only")
    assert "718-7" in text


def test_another_site_is_not_listed(folder: Path) -> None:
    code, text = run(folder, "codes", "--site", "milan")
    assert (code, "has no site named 'milan'" in text) == (2, True)


def test_before_the_first_sync_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "periop.toml").write_text('[[sites]]\nname = "rome"\nkind = "folder"\npath = "fhir"\n')
    code, text = run(tmp_path, "codes")
    assert (code, "periop sync" in text) == (1, True)


def test_stubs_change_nothing_until_they_are_filled_in(folder: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    written = [Path(path) for path in listed(folder, "--write", str(tmp_path / "stubs"))["written"]]
    assert [path.name for path in written] == ["ecog.json", "nsclc.json"]
    code, text = run(folder, "codes", "--write", str(tmp_path / "stubs"))
    assert (code, "ecog.json: is there already" in text) == (2, True)

    own = folder / "terminology"
    for path in written:
        (own / path.name).write_bytes(path.read_bytes())
    try:
        assert listed(folder)["codes"] == found["codes"]
        assert screened(folder) == 2

        ecog = json.loads((own / "ecog.json").read_bytes())
        for element in ecog["group"][0]["element"]:
            element["target"] = [{"code": {"eins": "1", "zwei": "2"}[element["code"].strip().lower()]}]
        (own / "ecog.json").write_text(json.dumps(ecog))
        nsclc = json.loads((own / "nsclc.json").read_bytes())
        for concept in nsclc["compose"]["include"][0]["concept"]:
            del concept["extension"]
        (own / "nsclc.json").write_text(json.dumps(nsclc))
        assert [each["code"] or each["text"] for each in listed(folder)["codes"]] == ["718-7", "Gicht"]
    finally:
        for path in own.glob("*"):
            path.unlink()


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return listed(folder)


def screened(folder: Path) -> int:
    session = Session(io.StringIO(), io.StringIO(), {"PERIOP_PSEUDONYM_KEY": KEY})
    with compiled_once(folder / "data"):
        assert main(["--config", str(folder / "periop.toml"), "map", "--json"], session) == 0
    patients: int = json.loads(session.stdout.getvalue())["patients"]  # type: ignore[attr-defined]
    return patients


def test_the_check_says_the_same_shares_after_a_map(folder: Path, found: dict[str, Any]) -> None:
    screened(folder)
    session = Session(io.StringIO(), io.StringIO(), {"PERIOP_PSEUDONYM_KEY": KEY})
    assert main(["--config", str(folder / "periop.toml"), "check", "--json"], session) == 0
    assert json.loads(session.stdout.getvalue())["understood"] == found["elements"]  # type: ignore[attr-defined]

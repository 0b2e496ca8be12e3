"""Codings that say the same in another way change no table: other names of a system, case, dots, dashes, blanks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mappers.study import load_study
from mappers.terminology.systems import FILE, Systems
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from tests.cohorts import ALNEO, TABLES, mapped

SYSTEMS = {each["uri"]: each for each in json.loads(FILE.read_bytes())["systems"]}
# Its code is read by a view, which is no terminology: FHIR requires the one system.
AS_WRITTEN = ("http://terminology.hl7.org/CodeSystem/condition-ver-status",)


def other_name(uri: str, draw: random.Random) -> str:
    """Another name of a code system."""
    known = SYSTEMS.get(uri, {})
    names = [uri, *(alias["uri"] for alias in known.get("aliases", ()))]
    ways: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: f"{name}|2024",
        lambda name: f" {name} ",
        lambda name: name if name.startswith("urn:") else f"{name}/",
        lambda name: name.replace("http://", "https://"),
        lambda name: name.upper() if name.startswith("urn:") else name,
    ]
    return draw.choice(ways)(draw.choice(names))


def other_code(uri: str, code: str, draw: random.Random) -> str:
    """Another form of a code, as its system allows."""
    known = SYSTEMS.get(uri, {})
    forms = [code, f" {code}", f"{code} "]
    if known.get("case") == "ignored":
        forms += [code.lower(), code.upper()]
    if known.get("form") in ("icd10", "undotted"):
        forms.append(code.replace(".", ""))
    if known.get("form") == "ndc" and code == "50242-130-01":
        forms.append("50242013001")
    if known.get("prefix"):
        forms.append(code.removeprefix(known["prefix"]))
    return draw.choice(forms)


def rewritten(value: Any, draw: random.Random) -> Any:
    """A resource with every coding said in another way."""
    if isinstance(value, list):
        return [rewritten(each, draw) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: rewritten(each, draw) for name, each in value.items()}
    uri, code = value.get("system"), value.get("code")
    if (
        isinstance(uri, str)
        and isinstance(code, str)
        and "value" not in value
        and uri in SYSTEMS
        and uri not in AS_WRITTEN
    ):
        made |= {"system": other_name(uri, draw), "code": other_code(uri, code, draw)}
    return made


def test_no_table_changes(tmp_path: Path) -> None:
    draw = random.Random(1)
    (tmp_path / "fhir").mkdir()
    changed = 0
    for file in sorted(ALNEO.glob("*.ndjson")):
        lines = file.read_text(encoding="utf-8").splitlines()
        others = [json.dumps(rewritten(json.loads(line), draw), ensure_ascii=False) for line in lines]
        changed += sum(json.loads(one) != json.loads(other) for one, other in zip(lines, others, strict=True))
        (tmp_path / "fhir" / file.name).write_text("\n".join(others) + "\n", encoding="utf-8")
    assert changed > 500
    tables = {
        name: made(tmp_path / name, folder) for name, folder in (("as-written", ALNEO), ("other", tmp_path / "fhir"))
    }
    for name in TABLES:
        pd.testing.assert_frame_equal(tables["other"][name], tables["as-written"][name])


def made(data: Path, folder: Path) -> dict[str, pd.DataFrame]:
    """The cohort tables of a folder."""
    settings = Settings(data_dir=data, sites=(FolderSite(name="alneo", kind="folder", path=folder),))
    mapped(settings, load_study("alneo"))
    return {name: pd.read_parquet(settings.cohort_dir / f"{name}.parquet") for name in TABLES}


def test_what_is_said_in_another_way_is_the_same_code() -> None:
    """The test above would not notice a rewriting that says nothing else."""
    draw = random.Random(0)
    systems = Systems({})
    for uri, code in (("http://hl7.org/fhir/sid/icd-10-cm", "C34.11"), ("http://loinc.org", "LA9622-7")):
        forms = {(other_name(uri, draw), other_code(uri, code, draw)) for _ in range(50)}
        assert len(forms) > 10
        assert {systems.normal(*form) for form in forms} == {(uri, code)}

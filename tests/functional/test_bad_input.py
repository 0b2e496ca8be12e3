"""Bad input among good: each fault is set aside or carried with a flag, counted, named in `status`, stops nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cohorts import ALNEO, KEY, Ran, run_folder
from tests.compiled import compiled_once

ENROLLED = "SYN-05"


def resource(kind: str, identifier: str, **elements: Any) -> bytes:
    return json.dumps({"resourceType": kind, "id": identifier, **elements}).encode()


OBSERVATION = {"status": "final", "subject": {"reference": f"Patient/{ENROLLED}"}}
FAULTS = {
    "Observation.ndjson": [
        resource("Observation", "bad-partial-date", **OBSERVATION, effectiveDateTime="2024-07",
                 code={"coding": [{"system": "http://loinc.org", "code": "89247-1"}]}, valueInteger=1),
        resource("Observation", "bad-no-patient", status="final", code={"text": "size"}),
        resource("Observation", "bad-other-server", status="final", code={"text": "size"},
                 subject={"identifier": {"value": "somebody"}}, effectiveDateTime="2024-07-01"),
        resource("Observation", "bad-value", **OBSERVATION, effectiveDateTime="2024-07-02",
                 code={"coding": [{"system": "http://loinc.org", "code": "89247-1"}]}, valueString="fair"),
    ],
    "Procedure.ndjson": [
        resource("Procedure", "bad-code", status="completed", subject={"reference": f"Patient/{ENROLLED}"},
                 code={"coding": [{"system": "http://snomed.info/sct", "code": "0"}]}, performedDateTime="2024-07-01"),
        resource("Encounter", "bad-type", status="finished"),
        resource("Procedure", "../../etc/passwd", status="completed"),
    ],
    "Condition.ndjson": [b'{"resourceType":"Condition","id":"bad-utf8","code":{"text":"\xff\xfe"}}'],
}  # fmt: skip
TRUNCATED = b'{"resourceType":"AdverseEvent","id":"bad-cut","actuality":"act'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "fhir"
    folder.mkdir()
    for file in ALNEO.glob("*.ndjson"):
        shutil.copy(file, folder)
    for name, lines in FAULTS.items():
        with (folder / name).open("ab") as stream:
            stream.write(b"\n".join(lines) + b"\n")
    with (folder / "AdverseEvent.ndjson").open("ab") as stream:
        stream.write(TRUNCATED)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_folder(tmp_path_factory.mktemp("good"), ALNEO)


@pytest.fixture(scope="module")
def bad(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_folder(tmp_path_factory.mktemp("bad_data"), folder)


def test_the_account_is_exact(bad: Ran, good: Ran) -> None:
    counts = bad.sync.counts
    assert counts.received == counts.stored + counts.quarantined == good.sync.counts.received + 9
    assert bad.sync.reasons == {"invalid-id": 1, "invalid-utf8": 1, "truncated": 1, "type-not-asked-for": 1}


def test_what_is_carried_is_flagged_and_what_is_set_aside_is_named(bad: Ran, good: Ran) -> None:
    before = good.quality()
    new = {key: count - before.get(key, 0) for key, count in bad.quality().items() if count != before.get(key, 0)}
    assert new == {
        ("Observation", "partial date, imputed"): 1,
        ("Observation", "no usable reference to a patient"): 1,
        ("Observation", "logical reference without a matching identifier"): 1,
        ("Observation", "value not understood: ECOG performance status"): 1,
        ("Procedure", "code in no value set"): 1,
        ("Resource", "quarantined: truncated"): 1,
        ("Resource", "quarantined: invalid-utf8"): 1,
        ("Encounter", "quarantined: type-not-asked-for"): 1,
        ("Procedure", "quarantined: invalid-id"): 1,
    }


def test_no_figure_changes(bad: Ran, good: Ran) -> None:
    assert bad.released.proportions == good.released.proportions
    assert bad.released.quantiles == good.released.quantiles
    assert bad.released.survival == good.released.survival


def test_status_names_each(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "periop.toml"
    site = f'[[sites]]\nname = "milan"\nkind = "folder"\npath = "{folder}"\n'
    config.write_text(f'data_dir = "data"\n{site}[disclosure]\nmin_cell = 0\n')
    command = [sys.executable, "-m", "schedules.cli", "--config", str(config)]
    environ = {"PERIOP_PSEUDONYM_KEY": KEY, "PATH": "/usr/bin:/bin"}
    with compiled_once(tmp_path / "data"):
        ran = subprocess.run([*command, "run"], env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 3), ran.stderr
    status = subprocess.run([*command, "status"], env=environ, capture_output=True, text=True, check=False)
    for words in ("invalid-utf8", "truncated", "invalid-id", "type-not-asked-for", "partial date, imputed",
                  "code in no value set", "no usable reference to a patient"):  # fmt: skip
        assert words in status.stdout, status.stdout
    told = ran.stdout + ran.stderr + status.stdout + status.stderr
    assert not any(secret in told for secret in ("bad-", "SYN-", "passwd", "fair"))

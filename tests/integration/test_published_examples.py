"""The examples of mCODE STU4 as its authors published them: the facts that are found in them, named one by one.

Nobody of this project wrote these resources. John Anyperson has non-small cell lung cancer and is not eligible for
ALNEO: his stage is IIIC. His other facts stand in the guide, and are read from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cohorts import pseudonym, run_folder
from tests.integration.conftest import missing, one_at_a_time

GUIDES = Path(__file__).parents[2] / "fixtures" / "guides"
MCODE = "hl7.fhir.us.mcode"
JOHN = "cancer-patient-john-anyperson"


def downloaded(name: str, lock: Path) -> Path:
    """Return the package of a guide, fetched by npm where it is not there, with the digest that was written down."""
    wanted = json.loads((GUIDES / "packages.json").read_bytes())[name]
    folder = GUIDES / "downloaded"
    file = folder / f"{name}-{wanted['version']}.tgz"
    with one_at_a_time(lock, name):
        if not file.exists():
            if shutil.which("npm") is None:
                missing("the examples of the guides need npm")
            folder.mkdir(exist_ok=True)
            command = ["npm", "pack", "--silent", f"{name}@{wanted['version']}"]
            npm = subprocess.run(command, cwd=folder, timeout=300, capture_output=True, text=True, check=False)
            if npm.returncode:
                missing(f"npm could not fetch {name}: {npm.stderr[-500:]}")
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    assert f"sha512-{digest}" == wanted["integrity"]
    return file


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the resources of the guide's examples, as a hospital's folder site has them."""
    folder = tmp_path_factory.mktemp("mcode")
    with tarfile.open(downloaded(MCODE, folder)) as package:
        for member in package:
            if member.name.startswith("package/example/") and member.name.endswith(".json"):
                file = package.extractfile(member)
                assert file is not None
                (folder / Path(member.name).name).write_bytes(file.read())
    return folder


@pytest.fixture(scope="module")
def tables(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    ran = run_folder(tmp_path_factory.mktemp("data"), examples, name="guide")
    names = ("adsl", "adrs", "adtte", "adae", "quality", "quality_patients")
    return {name: pd.read_parquet(ran.settings.cohort_dir / f"{name}.parquet") for name in names}


def test_who_is_screened(tables: dict[str, pd.DataFrame]) -> None:
    """Of the guide's patients one has lung cancer; breast cancer and leukaemias are not screened."""
    assert tables["adsl"]["SUBJID"].to_list() == [pseudonym(JOHN)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SEX", "M"),
        ("STAGEBL", "IIIC"),  # tnm-clinical-stage-group-3c
        ("TSTGBL", "T3"),  # tnm-clinical-primary-tumor-category-cT3
        ("NSTGBL", "N3"),  # tnm-clinical-regional-nodes-category-cN3
        ("ECOGBL", 0),  # ecog-performance-status-fully-active
        ("AGE", 73),  # born 1951-01-20, at the data cutoff, because there is no dose
        ("ALKSTAT", None),  # the fusion that is present is of BCR and ABL1
        ("ITTFL", "N"),
        ("SCRFRS", "STAGE NOT ELIGIBLE"),
    ],
)
def test_facts_of_john_anyperson(tables: dict[str, pd.DataFrame], variable: str, value: Any) -> None:
    assert tables["adsl"].iloc[0][variable] == value

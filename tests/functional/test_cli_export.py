"""`periop export`: the cohort tables as other programs read them back, and what may not be written where."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest

from mappers.adam.labels import DATASETS, SHORT_NAMES, STRUCTURES, VARIABLES
from mappers.adam.xpt import write_xpt
from mappers.build.cohort_folder import CohortFolder, State
from mappers.cohort.variables import COLUMNS
from tests.functional.test_cli_commands import Terminal, periop

__all__ = ["periop"]  # the fixture

NAMES = [*DATASETS]
LONG = "; ".join(f"V{number} Observation/{'é' * 30}{number}" for number in range(9))  # about 700 bytes


def column(name: str, field: str) -> pa.Array:
    """Return two values, the second of them missing, of the type that the column has."""
    if field.endswith("DT"):
        return pa.array([date(2024, 2, 29), None], pa.date32())
    if field == "SRCREF":
        return pa.array([["STAGEBL Observation/1", LONG], None], pa.list_(pa.string()))
    if field in ("AGE", "ECOGBL", "CNSR", "SRCSEQ", "APERIOD", "ATOXGRN"):
        return pa.array([0, None], pa.int32())
    return pa.array([7.25, None], pa.float64()) if field == "AVAL" else pa.array([f"{name} {field}", None])


def tables() -> dict[str, pa.Table]:
    return {name: pa.table({field: column(name, field) for field in fields}) for name, fields in COLUMNS.items()}


@pytest.fixture
def mapped(periop: Terminal) -> Terminal:
    """Return a terminal whose data folder has cohort tables."""
    folder = CohortFolder(periop.data / "cohort")
    folder.begin()
    for name, table in tables().items():
        folder.write(None, name.lower(), table.to_reader())
    folder.put_in_place(State(rules="", sync=1, fingerprint=0))
    return periop


def test_every_variable_has_a_label_that_fits() -> None:
    assert {field for fields in COLUMNS.values() for field in fields} == VARIABLES.keys()
    assert {*DATASETS} == {*STRUCTURES} == {*COLUMNS}
    assert all(0 < len(label) <= 40 for label in (*VARIABLES.values(), *DATASETS.values()))
    assert all(len(SHORT_NAMES.get(field, field)) <= 8 for field in VARIABLES)


def test_all_formats_hold_the_same(mapped: Terminal, tmp_path: Path) -> None:
    target = tmp_path / "export"
    assert mapped("export", str(target)) == 0, mapped.err
    assert "Rows: ADSL 2, ADRS 2, ADTTE 2, ADAE 2." in mapped.out
    assert sorted(file.name for file in target.iterdir()) == sorted(
        ["define.json", *(f"{name.lower()}.{kind}" for name in NAMES for kind in ("csv", "parquet", "xpt"))]
    )
    assert {file.stat().st_mode & 0o077 for file in (target, *target.iterdir())} == {0}
    for name, table in tables().items():
        assert pq.read_table(target / f"{name.lower()}.parquet").equals(table)
        rows = pd.read_csv(target / f"{name.lower()}.csv", keep_default_na=False, dtype=str)
        assert list(rows.columns) == COLUMNS[name]
        assert rows.loc[1].eq("").all()
        assert rows.loc[0, "SRCREF"] == "STAGEBL Observation/1; " + LONG
        assert {rows.loc[0, field] for field in COLUMNS[name] if field.endswith("DT")} == {"2024-02-29"}


@pytest.mark.parametrize("name", NAMES)
def test_a_transport_file_is_read_back(mapped: Terminal, tmp_path: Path, name: str) -> None:
    mapped("export", str(tmp_path / "x"), "--format", "xpt")
    rows, meta = pyreadstat.read_xport(tmp_path / "x" / f"{name.lower()}.xpt")
    assert (meta.table_name, meta.file_label) == (name, DATASETS[name])
    for field in COLUMNS[name]:
        short = SHORT_NAMES.get(field, field)
        assert meta.column_names_to_labels[short] == VARIABLES[field]
        if field.endswith("DT"):
            assert rows[short][0] == date(2024, 2, 29)
            assert meta.original_variable_types[short] == "DATE9."
        if field.endswith("DT") or field in ("AGE", "AVAL", "CNSR"):
            assert pd.isna(rows[short][1])
    # What is longer than 200 bytes goes on: nothing is lost, and no character is cut.
    parts = [field for field in rows.columns if field.startswith("SRCREF")]
    assert "".join(rows[part][0] for part in parts) == "STAGEBL Observation/1; " + LONG
    assert all(len(rows[part][0].encode()) <= 200 for part in parts)
    assert meta.column_names_to_labels["SRCREF1"] == "Source Resources (continued)"


def test_r_reads_the_transport_files(mapped: Terminal, tmp_path: Path) -> None:
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is missing: install R with its package foreign")
    mapped("export", str(tmp_path / "x"), "--format", "xpt")
    program = f"""
    rows <- foreign::read.xport("{tmp_path / "x" / "adtte.xpt"}")
    cat(names(rows)[1:4], nrow(rows), rows$AVAL[1], is.na(rows$AVAL[2]), as.numeric(rows$ADT[1]))
    """
    ran = subprocess.run([rscript, "-e", program], capture_output=True, text=True, timeout=120, check=True)
    days = (date(2024, 2, 29) - date(1960, 1, 1)).days
    assert ran.stdout == f"STUDYID USUBJID SITEID PARAMCD 2 7.25 TRUE {days}"


def test_define_json_names_every_variable(mapped: Terminal, tmp_path: Path) -> None:
    mapped("export", str(tmp_path / "x"), "--format", "csv")
    content = json.loads((tmp_path / "x" / "define.json").read_bytes())
    assert [each["name"] for each in content["datasets"]] == NAMES
    adsl = content["datasets"][0]
    assert (adsl["keys"], adsl["records"]) == (["USUBJID"], 2)
    of = {each["name"]: each for each in adsl["variables"]}
    assert [*of] == COLUMNS["ADSL"]
    assert {of[name]["type"] for name in ("TRTSDT", "AGE", "SEX")} == {"date", "integer", "text"}
    assert of["AP01EXSRC"]["name_in_xpt"] == "AP01XSRC"
    assert all(each["method"] for each in adsl["variables"])


def test_a_use_is_in_the_audit_log(mapped: Terminal, tmp_path: Path) -> None:
    mapped("export", str(tmp_path / "x"))
    entry = json.loads((mapped.data / "explain.log").read_text().splitlines()[-1])
    assert (entry["patient"], entry["variable"]) == ("all patients", "export")


def test_rows_of_patients_are_not_written_where_releases_leave(mapped: Terminal) -> None:
    assert mapped("export", str(mapped.data / "releases" / "adam")) == 2
    assert "rows of patients must not" in mapped.err
    assert not (mapped.data / "releases" / "adam").exists()


def test_nothing_to_export_is_said(periop: Terminal, tmp_path: Path) -> None:
    assert periop("export", str(tmp_path / "x")) == 1
    assert "run `periop map` first" in periop.err
    assert not (tmp_path / "x").exists()


def test_no_tables_at_a_cutoff_are_said(mapped: Terminal, tmp_path: Path) -> None:
    assert mapped("export", str(tmp_path / "x"), "--cut", "later_cut") == 1
    assert "holds no cohort tables at data cutoff later_cut" in mapped.err


def test_a_text_that_no_transport_file_holds_is_refused(tmp_path: Path) -> None:
    table = pa.table({"SURGTYPE": ["x" * 201]})
    with pytest.raises(ValueError, match="a text of SURGTYPE is too long"):
        write_xpt(table, "ADSL", tmp_path / "adsl.xpt")

"""`periop pool` on files: what is printed, written and refused."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import orjson
import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.unit.test_analytics_pooling import documents


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("releases")
    for name, content in documents():
        (folder / name).write_bytes(orjson.dumps(content))
    return [str(file) for file in sorted(folder.iterdir())]


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["pool", *arguments], Session(out, err, {}))
    return code, out.getvalue(), err.getvalue()


def test_the_published_figures_come_from_three_sites(files: list[str], tmp_path: Path) -> None:
    code, out, err = run(*files, "--out", str(tmp_path / "pool"))
    assert (code, err) == (0, "")
    (mpr,) = [line for line in out.splitlines() if line.lstrip().startswith("MPR")]
    assert "15/33" in mpr
    assert "30–61" in mpr  # as published, but for a rounding
    assert "I²" in mpr
    assert "pooled from 3 releases: milan, rome, turin" in out
    written = sorted((tmp_path / "pool").iterdir())
    assert [file.name for file in written] == ["pool.json", "report.html"]
    assert json.loads(written[0].read_bytes())["schema"] == "periop.pool/1"
    if os.name == "posix":  # nothing was suppressed, so it is patient data
        assert {stat.S_IMODE(file.stat().st_mode) for file in written} == {0o600}


def test_pool_as_json_of_two(files: list[str]) -> None:
    code, out, _ = run(*files[:2], "--json")
    found = json.loads(out)
    assert code == 0
    assert [site["site"] for site in found["sites"]] == ["milan", "rome"]
    assert "by_site" not in found["proportions"][0]


def test_fault_136_a_file_that_does_not_belong_is_named_on_the_terminal(files: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(Path(files[1]).read_bytes().replace(b'"data_cut":"2024-12-01"', b'"data_cut":"2023-01-01"'))
    code, out, err = run(files[0], str(other), files[2], "--out", str(tmp_path / "pool"))
    assert (code, out) == (1, "")
    assert f"periop: {other}: the data cutoff is 2023-01-01 and not 2024-12-01" in err
    assert not (tmp_path / "pool").exists()
    assert run(files[0])[0] == 1
    assert run(str(tmp_path / "absent.json"), files[0])[0] == 2

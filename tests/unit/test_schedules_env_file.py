"""`--env-file`: secrets by a private file, never in a command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schedules.config.env_file import read_env_file
from schedules.errors import ConfigError
from tests.functional.test_cli_commands import Terminal, periop

__all__ = ["periop"]  # the fixture


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "periop.env"
    file.write_text(text, "utf-8")
    file.chmod(mode)
    return file


def test_values_are_taken_as_they_stand(tmp_path: Path) -> None:
    text = "\ufeff# tokens\n\n; too\nA=x=y$z\\n\nB_2=\"with 'quotes' \"\r\nC='c'\n  D=a b  \nE=\nF=\"\n"
    assert read_env_file(written(tmp_path, text)) == {
        "A": "x=y$z\\n",
        "B_2": "with 'quotes' ",
        "C": "c",
        "D": "a b",
        "E": "",
        "F": '"',
    }


@pytest.mark.parametrize("line", ["export A=s3cret", "A = s3cret", "s3cret", "1A=s3cret"])
def test_a_line_that_is_no_variable_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_env_file(written(tmp_path, f"B=1\n{line}\n"))
    assert "periop.env, line 2: is no NAME=value" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_fault_103_a_file_of_secrets_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_env_file(written(tmp_path, "A=1\n", mode))


def test_fault_103_the_secrets_of_the_file_reach_the_sites(periop: Terminal, tmp_path: Path) -> None:
    auth = 'auth = { kind = "bearer", token_env = "PERIOP_TOKEN" }'
    periop.config.write_text(f'[[sites]]\nname = "a"\nkind = "search"\nurl = "http://127.0.0.1:9/fhir"\n{auth}\n')
    assert periop("check") == 2
    assert "environment variable PERIOP_TOKEN" in periop.err
    file = written(tmp_path, "PERIOP_TOKEN=s3cret\n")
    assert periop("--env-file", str(file), "check") == 1  # the secret is there, the server is not
    assert "s3cret" not in periop.out + periop.err
    assert periop("--env-file", str(tmp_path / "none"), "check") == 2
    assert "none: the secrets cannot be read" in periop.err

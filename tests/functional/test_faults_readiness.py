"""A run says before it begins what it will miss: by `periop check`, and by the service at its start, which goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schedules.config.settings import Settings, load_settings
from schedules.run.readiness import problems
from tests.functional.test_cli_commands import Terminal, periop

__all__ = ["periop"]  # the fixture

TOML = """
[[sites]]
name = "milan"
kind = "search"
url = "http://127.0.0.1:9/fhir"
auth = { kind = "bearer", token_env = "PERIOP_MILAN_TOKEN" }

[[sites]]
name = "rome"
kind = "folder"
path = "rome"

[[publish]]
kind = "folder"
path = "share/of/registry"
"""


def configured(folder: Path) -> Path:
    file = folder / "periop.toml"
    file.write_text(TOML)
    return file


def settings(folder: Path) -> Settings:
    return load_settings(configured(folder))


def test_fault_104_each_thing_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    milan, rome, share = problems(settings(tmp_path), {})
    assert milan.startswith("site milan: environment variable PERIOP_MILAN_TOKEN: holds no secret")
    assert rome == f"site rome: {tmp_path / 'rome'} is not there; make it, or mount the share"
    assert "share/of is not there" in share


SECRETS = """
[[sites]]
name = "milan"
kind = "search"
url = "https://fhir.milan.example/r4"
headers = { X-One = { env = "ONE" }, X-Two = { env = "TWO" } }
proxy = "http://periop@proxy.example:3128"
proxy_password_env = "PROXY_PASSWORD"
auth = { kind = "bearer", token_env = "MILAN_TOKEN" }

[[sites]]
name = "turin"
kind = "bulk"
url = "https://fhir.turin.example/r4"
level = "group"
group = "g"
auth = { kind = "client_secret", client_id = "periop", client_secret_env = "TURIN_SECRET" }

[[sites]]
name = "rome"
kind = "folder"
path = "fhir"
"""
MISSING = ("MILAN_TOKEN", "ONE", "TWO", "PROXY_PASSWORD", "TURIN_SECRET")


def test_fault_138_a_check_tells_all_secrets_that_are_missing_at_once(periop: Terminal) -> None:
    periop.config.write_text(SECRETS)
    assert periop("check") == 2
    told = [line for line in periop.err.splitlines() if "holds no secret" in line]
    assert [line.partition("environment variable ")[2].partition(":")[0] for line in told] == list(MISSING)
    assert ["milan" in line for line in told] == [True] * 4 + [False]
    assert periop("check", "turin") == 2  # only of the sites that were asked for
    assert [name for name in MISSING if name in periop.err] == ["TURIN_SECRET"]


def test_fault_138_what_is_there_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "periop.toml").write_text(SECRETS)
    (tmp_path / "fhir").mkdir()
    there = dict.fromkeys(MISSING, "s3cret")
    assert list(problems(load_settings(tmp_path / "periop.toml"), there)) == []
    del there["TWO"]
    (only,) = problems(load_settings(tmp_path / "periop.toml"), there)
    assert only.startswith("site milan: environment variable TWO: holds no secret")


def test_fault_104_nothing_is_said_where_all_is_there(tmp_path: Path) -> None:
    for name in ("rome", "share/of"):
        (tmp_path / name).mkdir(parents=True)
    assert list(problems(settings(tmp_path), {"PERIOP_MILAN_TOKEN": "s3cret"})) == []
    assert not (tmp_path / "periop-data").exists()  # to look changes nothing


def test_fault_167_the_secrets_of_those_who_are_told_are_tried_too(tmp_path: Path) -> None:
    hook = '[[notify]]\nkind = "webhook"\nurl_env = "CHAT_URL"\nsecret_env = "CHAT_KEY"\n'
    file = tmp_path / "periop.toml"
    (tmp_path / "fhir").mkdir()
    file.write_text('[[sites]]\nname = "milan"\nkind = "folder"\npath = "fhir"\n' + hook)
    there = {"CHAT_URL": "https://chat.example.org/s3cret", "CHAT_KEY": "k3y"}
    assert list(problems(load_settings(file), there)) == []
    for name in there:
        (said,) = problems(load_settings(file), {n: value for n, value in there.items() if n != name})
        assert said.startswith(f"webhook of CHAT_URL: environment variable {name}: holds no secret")


def test_fault_104_a_key_that_is_none_is_said(tmp_path: Path) -> None:
    found = list(problems(settings(tmp_path), {"PERIOP_PSEUDONYM_KEY": "short"}))
    assert any("PERIOP_PSEUDONYM_KEY: not a key" in each for each in found)


@pytest.mark.parametrize("there", [True, False])
def test_fault_104_a_check_tries_the_targets(periop: Terminal, tmp_path: Path, there: bool) -> None:
    (tmp_path / "fhir").mkdir()
    resources = ('{"resourceType":"Patient","id":"a"}', '{"resourceType":"Condition","id":"c"}')
    (tmp_path / "fhir" / "all.ndjson").write_text("\n".join(resources))
    if there:
        (tmp_path / "share" / "of").mkdir(parents=True)
    target = TOML.partition("[[publish]]")[2]
    site = 'name = "a"\nkind = "folder"\npath = "fhir"\ntypes = ["Patient", "Condition"]\n'
    periop.config.write_text(f"[[sites]]\n{site}\n[[publish]]{target}")
    assert periop("check") == (0 if there else 1)
    assert "Targets of releases:" in periop.out
    (listed,) = periop.json("check")["targets"]
    assert listed["path"] == str(tmp_path / "share/of/registry")
    assert (listed["problem"] is None) is there


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_fault_104_the_service_says_it_at_its_start_and_serves(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schedules.cli", "--config", str(configured(tmp_path)), "serve"]
    environ = {name: value for name, value in os.environ.items() if name != "PERIOP_MILAN_TOKEN"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving;" in line:
                process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    said = "".join(lines)
    assert process.returncode == 0, said
    assert said.count("a run will miss this: ") == 3
    assert "PERIOP_MILAN_TOKEN" in said

"""The commands of the documentation: those of docs/hospital-it.md are followed to the letter, all others exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from schedules.cli.main import cli
from schedules.config.credentials import PSEUDONYM_KEY
from tests.compiled import compiled_once
from tests.fhir_stub import FhirStub, fhir_stub

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOTS = ("/srv/", "/opt/periop", "/etc/")
# What needs root, systemd, or an archive of half a gigabyte: that, and the demo, are in test_bundle_install.py.
EXCLUDED = ("useradd", "systemctl", "journalctl", "make", "tar", "install.sh")
TOKEN = "s3cret"
# As the administrator's machine has them: sudo runs as the user of this test, install cannot give files away.
STANDINS = {
    "sudo": '[ "$1" = -u ] && shift 2\nexec "$@"',
    "sudoedit": f'echo "PERIOP_MILAN_TOKEN={TOKEN}" >"$1"',
    "install": """
while :; do
    case "$1" in -d) folder=yes; shift ;; -m) mode=$2; shift 2 ;; -o | -g) shift 2 ;; *) break ;; esac
done
if [ "$folder" ]; then exec mkdir -p "$1"; fi
cat "$1" >"$2" && chmod "$mode" "$2"
""",
}


@pytest.fixture
def server() -> Iterator[FhirStub]:
    with fhir_stub() as stub:
        for file in sorted((REPOSITORY / "fixtures" / "alneo").glob("*.ndjson")):
            stub.put(*map(json.loads, file.read_text("utf-8").splitlines()))
        stub.token = TOKEN
        yield stub


@pytest.mark.skipif(os.name != "posix", reason="the commands of the page are those of a POSIX shell")
def test_fault_103_the_page_for_hospital_it_can_be_followed_to_the_letter(tmp_path: Path, server: FhirStub) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in STANDINS.items():
        script(tools / name, text)
    for name in ("srv/periop", "srv/share", "etc/systemd/system", "opt/periop/.venv/bin", "home"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "opt/periop/deploy").symlink_to(REPOSITORY / "deploy")
    script(tmp_path / "opt/periop/.venv/bin/periop", f'exec {shlex.quote(sys.executable)} -m schedules.cli "$@"')
    environ = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path / "home")}
    home = tmp_path / "home"
    environ[PSEUDONYM_KEY] = "5a" * 32  # given, so that SQL may be there that another test compiled
    page = (REPOSITORY / "docs" / "hospital-it.md").read_text("utf-8")
    ran, configured = [], False
    for language, text in BLOCK.findall(page):
        if language == "toml":
            # The first example is the file to write; the server is the one of this test.
            if not configured:
                local = text.replace("https://fhir.hospital.example/r4", server.base)
                (tmp_path / "srv/periop/periop.toml").write_text(placed(local, tmp_path))
            configured = True
            continue
        for line in text.splitlines():
            if excluded(line):
                continue
            command = ["sh", "-euc", placed(line, tmp_path)]
            with compiled_once(tmp_path / "srv/periop/periop-data"):
                done = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            ran.append(line)
    assert len(ran) >= 10
    # What the page is for: a secret in a private file, a release on the share, the units in place.
    assert stat.S_IMODE((tmp_path / "srv/periop/periop.env").stat().st_mode) == 0o600
    assert (tmp_path / "srv/share/periop/current/report.html").is_file()
    assert (tmp_path / "etc/systemd/system/periop.service").is_file()
    assert len(server.requests) > 50  # which had the token, or the server would have refused them


def script(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def placed(text: str, root: Path) -> str:
    """The text with the folders of the machine below `root`."""
    for folder in ROOTS:
        text = text.replace(folder, f"{root}{folder}")
    return text


def excluded(line: str) -> bool:
    words = [word for word in shlex.split(line, comments=True) if word != "sudo"]
    return not words or Path(words[0]).name in EXCLUDED or "/bin/periop demo" in line


def test_what_is_excluded_needs_root_or_systemd() -> None:
    assert excluded("sudo systemctl daemon-reload")
    assert excluded("# a comment")
    assert excluded("sudo periop-0.1.0/install.sh /opt/periop")
    assert not excluded("sudo -u periop sh -c 'periop run'")


def refused(arguments: list[str]) -> str | None:
    """Return why the command line would refuse the arguments of a call, None if it knows all of them."""
    command: click.Command = cli
    while True:
        try:
            # As the program makes it: click keeps the option for help of the first context that a command has.
            context = click.Context(command, **cli.context_settings)
            # For a group the rest begins with the name of the command.
            _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        except click.UsageError as error:
            return error.message
        if not isinstance(command, click.Group):
            return None
        if not rest or rest[0] not in command.commands:
            return f"no command {rest[:1]}"
        command, arguments = command.commands[rest[0]], rest[1:]


def test_every_command_of_the_documentation_exists_with_its_options() -> None:
    calls = [
        (page.name, shlex.split(call, comments=True))
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text("utf-8"))
        for call in re.findall(r"(?:^|/bin/)periop ([^|>&'\n]*)", text, re.MULTILINE)
        if language == "sh"
    ]
    assert len(calls) > 20
    assert [(page, words, reason) for page, words in calls if (reason := refused(words))] == []
    assert refused(["run", "--fulll"]) is not None
    assert refused(["view", "rnu"]) is not None

"""Generated artefacts that a reviewer must see change: SQL of the shipped views, results of the demo, help texts.

They are committed below tests/expected; `make expected` writes them anew, and the diff is what a change did.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from analytics.results import dumps
from mappers.study import load_study
from mappers.view.runner import sql
from mappers.view.shipped import load_views
from schedules.cli.main import cli
from schedules.cli.session import Session
from tests import derivation, vendor_matrix
from tests.cohorts import ALNEO, analyzed, run_folder

FOLDER = Path(__file__).parent / "expected"


def view_sql() -> Iterator[tuple[str, str]]:
    """The DuckDB SQL of every shipped view."""
    for name, view in load_views().items():
        yield f"views/{name}.sql", sql(view) + "\n"


def command_words(group: click.Group) -> Iterator[list[str]]:
    """The words that lead to each command of a group, and of the groups in it."""
    for name, command in sorted(group.commands.items()):
        yield [name]
        if isinstance(command, click.Group):
            yield from ([name, *words] for words in command_words(command))


def help_texts() -> Iterator[tuple[str, str]]:
    """What `--help` prints, of the program and of each command."""
    session = Session(io.StringIO(), io.StringIO(), {})
    for words in ([], *command_words(cli)):
        arguments = [*words, "--help"]
        result = CliRunner().invoke(
            cli, arguments, obj=session, prog_name="periop", terminal_width=100, catch_exceptions=False
        )
        assert (result.exit_code, bool(result.output)) == (0, True), f"no help of {' '.join(['periop', *words])}"
        yield f"help/{'-'.join(['periop', *words])}.txt", result.output


def demo_results() -> Iterator[tuple[str, str]]:
    """results.json of the built-in cohort, without protection and with two thresholds."""
    with tempfile.TemporaryDirectory() as folder:
        ran = run_folder(Path(folder), ALNEO, name="demo")
        released = {k: analyzed(ran.settings, load_study("alneo"), k) for k in (5, 11)}
    yield "demo_results.json", dumps(ran.released, 1).decode()
    for k, found in released.items():
        yield f"demo_results_min_cell_{k}.json", dumps(found, 1).decode()


def everything() -> Iterator[tuple[str, str]]:
    """(path below tests/expected, content) of every artefact."""
    yield from view_sql()
    yield from help_texts()
    yield from demo_results()


def write() -> int:
    """Write all of them anew; returns how many there are."""
    made = dict(everything())
    for name, content in made.items():
        file = FOLDER / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    derivation.write()
    vendor_matrix.write()
    return len(made)


if __name__ == "__main__":
    sys.stderr.write(f"{write()} files written below {FOLDER}\n")

"""The documentation is complete (commands, settings, study keys, exit codes, columns) and its links lead somewhere."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import BaseModel

from mappers.cohort import adae, adrs, adsl, adtte, quality
from mappers.study import TIMES_TO_EVENT, Study
from schedules.cli.main import cli
from schedules.config.credentials import PSEUDONYM_KEY
from schedules.config.settings import Settings
from schedules.errors import ExitCode
from tests import derivation

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *DOCS.rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TABLES = {
    "ADSL": adsl.PUBLISHED,
    "ADRS": adrs.PUBLISHED,
    "ADTTE": adtte.PUBLISHED,
    "ADAE": adae.PUBLISHED,
    "QUALITY": list(quality.COLUMNS),
}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the second level, by the heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every pydantic model within an annotation, and within the fields of those."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    else:
        for part in get_args(annotation):
            yield from models(part)


def words(annotation: Any) -> Iterator[str]:
    """Every text that a Literal within an annotation allows."""
    if get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    else:
        for part in get_args(annotation):
            yield from words(part)


def keys(root: type[BaseModel]) -> list[tuple[str, str]]:
    """(model, key) of every field below `root`."""
    found = dict.fromkeys(models(root))
    return [(model.__name__, name) for model in found for name in model.model_fields]


def allowed(root: type[BaseModel]) -> list[str]:
    """Every allowed word of every field below `root`."""
    found = dict.fromkeys(models(root))
    return sorted(
        {word for model in found for field in model.model_fields.values() for word in words(field.annotation)}
    )


def columns_named(text: str) -> set[str]:
    """The names in the first column of the tables of a section."""
    rows = re.findall(r"^\| ([A-Z0-9, ]+) \|", text, flags=re.MULTILINE)
    return {name.strip() for row in rows for name in row.split(",")}


# The walkers see what they should


def test_the_walk_through_models_goes_into_unions_and_tuples() -> None:
    names = {name for name, _ in keys(Settings)}
    assert {"Settings", "SearchSite", "FolderSite", "BearerAuth", "Limits", "FolderTarget"} <= names
    assert {"Where", "Cut", "Note", "SurvivalSpec"} <= {name for name, _ in keys(Study)}
    assert list(words(Literal["a"] | Literal["b"] | None)) == ["a", "b"]
    assert get_origin(int | str) is UnionType


# Commands and exit codes


def commands(group: click.Group, *before: str) -> dict[str, click.Command]:
    """Every command that does something, by its words; a group is known by its commands."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        words = (*before, name)
        found |= commands(command, *words) if isinstance(command, click.Group) else {" ".join(words): command}
    return found


COMMANDS = commands(cli)


def command_sections() -> dict[str, str]:
    """The sections of commands, by the words of the command: `periop view run VIEW.json` is `view run`."""
    word = re.compile(r"`periop ([a-z]+(?: [a-z]+)*)[` ]")
    found = ((word.match(head), text) for head, text in sections(page("commands.md")).items())
    return {match[1]: text for match, text in found if match}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_section_with_its_options(name: str) -> None:
    text = command_sections().get(name)
    assert text is not None, f"docs/commands.md has no section for `periop {name}`"
    options = [o for parameter in COMMANDS[name].params if isinstance(parameter, click.Option) for o in parameter.opts]
    missing = [option for option in options if not re.search(rf"`{option}[` ]", text)]
    assert not missing


def test_no_section_for_a_command_that_is_gone() -> None:
    assert set(command_sections()) == set(COMMANDS)


def test_every_global_option_is_documented() -> None:
    options = {o for parameter in cli.params if isinstance(parameter, click.Option) for o in parameter.opts}
    text = page("commands.md").split("\n## ")[0]
    assert [option for option in options | {"-h", "--help"} if not re.search(rf"`{option}[` ]", text)] == []


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_documented(code: ExitCode) -> None:
    table = sections(page("commands.md"))["Exit codes"]
    assert re.search(rf"^\| {int(code)} \| ", table, flags=re.MULTILINE)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = next(line for line in readme.splitlines() if line.startswith("- **Exit codes**"))
    assert re.search(rf"\b{int(code)}\b", listed)


# Settings and study


SERVER = "`[[sites]]`: a FHIR server"
SETTINGS_SECTIONS = {  # of docs/configuration.md, by model
    "Settings": ["Top level"],
    "FolderSite": ["`[[sites]]`: a folder"],
    "ConsentSettings": ["Consent"],
    "SearchSite": [SERVER],
    "BulkSite": [SERVER, "`[[sites]]`: a FHIR server by Bulk Data export"],
    **{auth: [SERVER] for auth in ("NoAuth", "BasicAuth", "BearerAuth", "SmartAuth", "ClientSecretAuth")},
    "HeaderSecret": [SERVER],
    "SiteLimits": [SERVER],
    "Schedule": ["`[schedule]`"],
    "Disclosure": ["`[disclosure]`"],
    "Release": ["`[release]`"],
    "FolderTarget": ["`[[publish]]`"],
    "MailNotice": ["`[[notify]]`"],
    "WebhookNotice": ["`[[notify]]`"],
    "Limits": ["`[limits]`"],
    "Mapping": ["`[mapping]`"],
    "Persons": ["`[persons]`"],
    "Maintain": ["`[maintain]`"],
    "Retention": ["`[retention]`"],
}


@pytest.mark.parametrize(("model", "key"), keys(Settings))
def test_every_setting_is_documented_in_its_section(model: str, key: str) -> None:
    found = sections(page("configuration.md"))
    text = "".join(found[name] for name in SETTINGS_SECTIONS[model])
    assert re.search(rf"`{key}`|`{{ {key} =", text), f"{model}.{key}"


@pytest.mark.parametrize("word", allowed(Settings))
def test_every_allowed_word_of_a_setting_is_documented(word: str) -> None:
    assert f'"{word}"' in page("configuration.md")


def test_the_environment_variable_of_the_key_is_documented() -> None:
    assert f"`{PSEUDONYM_KEY}`" in page("configuration.md")


@pytest.mark.parametrize(("model", "key"), keys(Study))
def test_every_study_key_is_documented(model: str, key: str) -> None:
    assert re.search(rf"`{key}`|`\[{{1,2}}{key}\]{{1,2}}`", page("study.md")), f"{model}.{key}"


@pytest.mark.parametrize("word", allowed(Study))
def test_every_allowed_word_of_a_study_is_documented(word: str) -> None:
    assert f'"{word}"' in page("study.md")


def test_defaults_of_the_limits_are_as_documented() -> None:
    section = next(text for head, text in sections(page("configuration.md")).items() if "limits" in head)
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\d+)` \|", section, flags=re.MULTILINE))
    assert {name: int(default) for name, default in rows.items()} == {
        name: int(field.default) for name, field in models_by_name(Settings)["Limits"].model_fields.items()
    }


def models_by_name(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    return {model.__name__: model for model in models(root)}


# Cohort tables and value sets


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_column_of_a_cohort_table_is_documented(table: str) -> None:
    section = next(text for head, text in sections(page("cohort-tables.md")).items() if head.startswith(f"{table}:"))
    assert [column for column in TABLES[table] if column not in columns_named(section)] == []


@pytest.mark.parametrize("paramcd", [*adrs.PARAMS, *TIMES_TO_EVENT])
def test_every_parameter_is_documented(paramcd: str) -> None:
    table = "ADRS" if paramcd in adrs.PARAMS else "ADTTE"
    section = next(text for head, text in sections(page("cohort-tables.md")).items() if head.startswith(f"{table}:"))
    assert paramcd in columns_named(section)


def test_every_value_set_is_documented() -> None:
    names = {file.stem for file in (REPOSITORY / "mappers" / "valuesets").glob("*.json")}
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in page("mapping.md")] == []


def test_every_reason_for_no_surgery_is_documented() -> None:
    concept_map = json.loads((REPOSITORY / "mappers" / "valuesets" / "no-surgery-reason.json").read_bytes())
    reasons = {
        target["code"] for group in concept_map["group"] for each in group["element"] for target in each["target"]
    }
    assert [reason for reason in sorted(reasons) if reason not in page("cohort-tables.md")] == []


def test_the_tables_hold_the_variables_of_the_reference() -> None:
    """`AEBODSYS/…` in a row stands for several variables, `ADSL+…` for several tables."""
    with (REPOSITORY / "fixtures" / "reference" / "adam_variables.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    split = [(row["dataset"].split("+"), row["variable"].split("/")) for row in rows]
    asked = {(table, name) for tables, names in split for table in tables for name in names}
    assert len(asked) == 77
    assert [(table, name) for table, name in sorted(asked) if name not in TABLES[table]] == []


def test_the_page_of_derivations_is_current() -> None:
    assert derivation.PAGE.read_text(encoding="utf-8") == derivation.page(), "run `make expected`"


# Rules and faults that code and tests cite by number

FAULT_NAME = re.compile(r"^ *def (test_fault_(\d+)_\w+)", re.MULTILINE)
TEST_FILES = sorted((REPOSITORY / "tests").rglob("test_*.py"))


def cited_rules(text: str) -> Iterator[int]:
    """The numbers in `docs/endpoint-rules.md 1 (sets), 13` and `docs/endpoint-rules.md 8-12`."""
    part = r"\d+(?:-\d+)?(?: \([^)]*\))?"
    for listed in re.findall(rf"endpoint-rules\.md[`)]* ({part}(?:,\s+{part})*)", text):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", re.sub(r"\([^)]*\)", "", listed)):
            yield from range(int(first), int(last or first) + 1)


def test_every_cited_endpoint_rule_exists() -> None:
    rules = [int(number) for number in re.findall(r"^(\d+)\. \*\*", page("endpoint-rules.md"), flags=re.MULTILINE)]
    assert rules == list(range(1, 18))
    packages = ("connectors", "mappers", "analytics", "schedules")
    files = [file for package in packages for file in (REPOSITORY / package).rglob("*.py")]
    cited = {file.name: set(cited_rules(file.read_text(encoding="utf-8"))) for file in files}
    assert cited["adrs.py"] >= {2, 3, 4, 5, 6, 7}
    assert set().union(*cited.values()) - set(rules) == set()


def fault_rows() -> dict[int, str]:
    """The last cell of each row of the table of faults, by its number."""
    row = re.compile(r"^\| (\d+)(?:\\\*)? \| .+ \| .+ \| (.+) \|$", re.MULTILINE)
    return {int(number): holders for number, holders in row.findall(page("faults.md"))}


def test_every_test_of_a_fault_names_a_row_and_every_row_its_tests() -> None:
    rows = fault_rows()
    assert list(rows) == sorted(rows)
    assert set(range(1, 35)) <= set(rows)
    named = {int(number) for file in TEST_FILES for _, number in FAULT_NAME.findall(file.read_text(encoding="utf-8"))}
    assert {number for number, holders in rows.items() if f"`test_fault_{number}_*`" in holders} == named


@pytest.mark.parametrize("number", fault_rows())
def test_what_is_said_to_hold_a_fault_exists(number: int) -> None:
    holders = fault_rows()[number]
    named = [name for name in re.findall(r"`(\S+)`", holders) if not name.startswith("test_fault_")]
    assert [name for name in named if not (REPOSITORY / name).is_file()] == []
    assert named or f"`test_fault_{number}_*`" in holders or holders.startswith("nothing: ")


# Examples and links


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_links_lead_to_files(file: Path) -> None:
    targets = [target for target in LINK.findall(file.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (file.parent / target.partition("#")[0]).exists()] == []


def test_the_readme_names_every_guide() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [guide.name for guide in sorted(DOCS.glob("*.md")) if f"(docs/{guide.name})" not in readme] == []


def toml_examples() -> list[tuple[str, str]]:
    """(place, content) of every TOML block of the documentation."""
    block = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (f"{file.name} {number}", text)
        for file in PAGES
        for number, text in enumerate(block.findall(file.read_text(encoding="utf-8")), 1)
    ]


@pytest.mark.parametrize("text", [pytest.param(text, id=place) for place, text in toml_examples()])
def test_configuration_examples_are_valid(text: str) -> None:
    assert Settings.model_validate(tomllib.loads(text)).site_names


def test_the_study_example_is_valid() -> None:
    text = sections(page("study.md"))["A small study"]
    example = "\n".join(line.removeprefix("    ") for line in text.splitlines() if line.startswith("    "))
    assert Study.model_validate(tomllib.loads(example)).id == "mini"


def test_the_picture_of_the_report_is_small() -> None:
    picture = DOCS / "report.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 400_000

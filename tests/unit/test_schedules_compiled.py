"""Compiled SQL from an earlier night: used where everything that it depends on is the same, else made again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from mappers.build.cohort import CohortProgram
from mappers.build.sql_cache import CompiledTexts


class Maker:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, int]:
        self.times += 1
        return {"made": self.times}


def test_a_text_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    assert CompiledTexts(tmp_path, "duckdb", "1").get("view", maker) == {"made": 1}
    assert CompiledTexts(tmp_path, "duckdb", "1").get("view", maker) == {"made": 1}


def test_it_is_made_again_for_another_source_compiler_or_engine(tmp_path: Path) -> None:
    maker = Maker()
    for dependencies, source in (
        (("duckdb", "1"), "a"),
        (("duckdb", "1"), "b"),
        (("duckdb", "2"), "a"),
        (("spark", "1"), "a"),
    ):
        CompiledTexts(tmp_path, *dependencies).get(source, maker)
    assert maker.times == 4


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    maker = Maker()
    CompiledTexts(tmp_path).get("view", maker)
    (file,) = tmp_path.iterdir()
    file.write_text('{"made": ')
    assert CompiledTexts(tmp_path).get("view", maker) == {"made": 2}


def test_what_nobody_asked_for_is_deleted(tmp_path: Path) -> None:
    maker = Maker()
    CompiledTexts(tmp_path).get("old", maker)
    texts = CompiledTexts(tmp_path)
    texts.get("new", maker)
    texts.forget_others()
    assert len(list(tmp_path.iterdir())) == 1
    assert CompiledTexts(tmp_path).get("new", maker) == {"made": 2}


class Filled:
    """An engine that notes what it is asked for."""

    name, con = "noted", None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def define_cut(self, day: date | None) -> None:
        self.asked.append(str(day))

    def fill(self, name: str, sql: str) -> None:
        self.asked.append(name)


def test_what_does_not_ask_for_the_cut_is_run_once() -> None:
    program = CohortProgram(
        (
            ("codes", 'SELECT * FROM "terminology"'),
            ("doses", 'SELECT * FROM "current_dose" WHERE "date" <= PERIOP_CUT("site")'),
            ("first", "SELECT * FROM `doses` JOIN `codes`"),
            ("people", "SELECT 'doses' FROM \"current_patient\""),
        ),
        {},
    )
    engine = Filled()
    program.fill(engine)  # type: ignore[arg-type]
    program.fill(engine, date(2024, 12, 1))  # type: ignore[arg-type]
    program.fill(engine, date(2025, 5, 5))  # type: ignore[arg-type]
    assert engine.asked == ["codes", "people", "2024-12-01", "doses", "first", "2025-05-05", "doses", "first"]

"""Steps that need each other: each once, after what it needs, two at once, and none after an error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.build.steps import Step, run
from mappers.engines.duckdb import DuckDBEngine, Engine, in_turn

needed = st.lists(st.sets(st.integers(0, 10**6), max_size=4), max_size=20)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with DuckDBEngine(threads=2) as engine:
        yield engine


@given(needed=needed)
def test_each_step_is_done_once_and_after_what_it_needs(needed: list[set[int]], engine: Engine) -> None:
    done: list[str] = []
    needs = {
        str(number): {str(some % number) for some in asked} if number else set() for number, asked in enumerate(needed)
    }

    def work(_engine: Engine, name: str) -> None:
        assert needs[name] <= set(done)
        done.append(name)

    run(engine, {name: Step(partial(work, name=name), needs[name]) for name in needs})
    assert sorted(done) == sorted(needs)


def test_two_that_do_not_need_each_other_are_done_at_once(engine: Engine) -> None:
    together = Barrier(2, timeout=60)
    run(engine, {name: Step(lambda _: together.wait()) for name in ("one", "other")})
    assert together.n_waiting == 0


class OneAfterTheOther:
    """An engine that does works in turn, as that of Spark."""

    def each(self, work: Any, items: Any, _own: Any) -> list[Any]:
        return in_turn(self, work, items)  # type: ignore[arg-type]


def test_what_most_wait_for_is_done_first() -> None:
    done: list[str] = []
    needs = {"short": (), "first": (), "second": ("first",), "third": ("second",)}
    steps = {name: Step(lambda _, name=name: done.append(name), asked) for name, asked in needs.items()}  # type: ignore[misc]
    run(OneAfterTheOther(), steps)  # type: ignore[arg-type]
    assert done[:2] == ["first", "second"]


def test_after_an_error_no_step_is_begun_and_the_error_is_told(engine: Engine) -> None:
    done: list[str] = []

    def fail(_engine: Engine) -> None:
        raise ValueError("the first")

    steps = {
        "fails": Step(fail),
        "needs it": Step(lambda _: done.append("needs it"), ("fails",)),
        "needs that": Step(lambda _: done.append("needs that"), ("needs it",)),
    }
    with pytest.raises(ValueError, match="the first"):
        run(engine, steps)
    assert done == []

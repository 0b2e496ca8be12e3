"""Several streams as one: everything arrives, in order within a task; errors and early ends leave no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from connectors.sources.concurrency import Task, growing, side_by_side


def numbers(start: int, count: int = 250) -> Iterator[int]:
    yield from range(start, start + count)


def ours() -> int:
    return threading.active_count()


@pytest.mark.parametrize("width", [1, 3, 50])
def test_everything_arrives_in_the_order_of_its_task(width: int) -> None:
    found = list(side_by_side([partial(numbers, start) for start in range(0, 5_000, 1_000)], width))
    assert len(found) == 5 * 250
    for start in range(0, 5_000, 1_000):
        assert [each for each in found if start <= each < start + 1_000] == list(range(start, start + 250))


def test_no_more_than_so_many_at_a_time() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def task() -> Iterator[int]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        yield from range(300)
        with lock:
            running[0] -= 1

    assert len(list(side_by_side([task] * 9, 3))) == 2_700
    assert 1 <= most[0] <= 3


@pytest.mark.parametrize("width", [1, 3])
def test_tasks_that_come_to_be_known_run_too(width: int) -> None:
    def first(add: Callable[[Task[int]], None]) -> Iterator[int]:
        for start in range(1_000, 5_000, 1_000):
            add(partial(numbers, start))
            yield start // 1_000

    found = list(growing(first, width))
    assert sorted(found) == sorted([*range(1, 5), *(n for start in range(1_000, 5_000, 1_000) for n in numbers(start))])


def test_what_was_added_runs_beside_the_first_task() -> None:
    run = threading.Event()

    def added() -> Iterator[str]:
        run.set()
        yield "added"

    def first(add: Callable[[Task[str]], None]) -> Iterator[str]:
        add(added)
        yield "first" if run.wait(30) else "alone"

    assert sorted(growing(first, 2)) == ["added", "first"]


@pytest.mark.parametrize("width", [1, 3])
def test_an_error_of_the_first_task_ends_all(width: int) -> None:
    def first(add: Callable[[Task[int]], None]) -> Iterator[int]:
        add(partial(numbers, 0))
        yield 1
        raise ValueError("no")

    before = ours()
    with pytest.raises(ValueError, match="no"):
        list(growing(first, width))
    assert ours() == before


def test_who_is_not_read_waits() -> None:
    made = [0]

    def task() -> Iterator[int]:
        for _ in range(100_000):
            made[0] += 1
            yield 0

    before = ours()
    stream = side_by_side([task, task], 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert made[0] < 5_000, "a stream ran ahead of its reader"
    assert ours() == before


def test_an_error_is_raised_where_it_is_read_and_ends_the_others() -> None:
    def bad() -> Iterator[int]:
        yield 1
        raise RuntimeError("broken")

    def endless() -> Iterator[int]:
        while True:
            yield 0

    before = ours()
    with pytest.raises(RuntimeError, match="broken"):
        for _ in side_by_side([endless, bad, endless], 3):
            pass
    assert ours() == before


def test_memory_is_bounded_by_bytes_too() -> None:
    class Big:
        raw = "x" * (1 << 20)

    taken = [0]

    def task() -> Iterator[Big]:
        for _ in range(500):
            taken[0] += 1
            yield Big()

    stream = side_by_side([task, task], 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert taken[0] < 20

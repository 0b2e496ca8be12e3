"""Several streams as one: everything arrives, in order within a task; errors and early ends leave no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from connectors.sources.concurrency import run_concurrently


def numbers(start: int, count: int = 250) -> Iterator[int]:
    yield from range(start, start + count)


def ours() -> int:
    return threading.active_count()


@pytest.mark.parametrize("width", [1, 3, 50])
def test_everything_arrives_in_the_order_of_its_task(width: int) -> None:
    found = list(run_concurrently([partial(numbers, start) for start in range(0, 5_000, 1_000)], width))
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

    assert len(list(run_concurrently([task] * 9, 3))) == 2_700
    assert 1 <= most[0] <= 3


def test_in_order_the_items_of_a_task_come_after_those_of_the_tasks_before_it() -> None:
    released = threading.Event()

    def slow() -> Iterator[int]:
        assert released.wait(30)
        yield 0

    def quick(number: int) -> Iterator[int]:
        if number == 3:
            released.set()
        yield number

    found = run_concurrently([slow, *(partial(quick, number) for number in range(1, 12))], 2, in_order=True)
    assert list(found) == list(range(12))


def test_in_order_no_more_than_twice_the_width_are_begun_ahead_of_the_reader() -> None:
    released, begun = threading.Event(), []

    def slow() -> Iterator[int]:
        assert released.wait(30)
        yield 0

    def quick(number: int) -> Iterator[int]:
        begun.append(number)
        if len(begun) == 3:
            released.set()
        yield number

    stream = run_concurrently([slow, *(partial(quick, number) for number in range(1, 12))], 2, in_order=True)
    assert next(stream) == 0
    assert len(begun) <= 4
    assert list(stream) == list(range(1, 12))


def test_none_is_yielded_while_nothing_comes() -> None:
    released = threading.Event()

    def slow() -> Iterator[int]:
        assert released.wait(30)
        yield 1

    stream = run_concurrently([slow], 1, interval=0.001)
    assert [next(stream), next(stream)] == [None, None]
    released.set()
    assert [item for item in stream if item] == [1]


def test_who_is_not_read_waits() -> None:
    made = [0]

    def task() -> Iterator[int]:
        for _ in range(100_000):
            made[0] += 1
            yield 0

    before = ours()
    stream = run_concurrently([task, task], 2)
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
        for _ in run_concurrently([endless, bad, endless], 3):
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

    stream = run_concurrently([task, task], 2, size=lambda item: len(item.raw))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert taken[0] < 20

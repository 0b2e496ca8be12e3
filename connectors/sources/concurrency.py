"""Runs several tasks at a time and yields their results as one stream, bounded in threads and in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from threading import Event, Lock, Semaphore, Thread
from time import monotonic
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")
T = TypeVar("T")
Task = Callable[[], Iterator[Item]]

CHUNK = 100  # items handed over at a time, so that threads wait for each other less often
CHUNK_BYTES = 1 << 20
POLL = 0.1  # seconds between two looks at whether to stop
STOP_SECONDS = 5.0  # that an early end waits for the threads


@overload
def run_concurrently(
    tasks: Sequence[Task[Item]], width: int, *, in_order: bool = False, size: Callable[[Item], int] = ...
) -> Iterator[Item]: ...


@overload
def run_concurrently(
    tasks: Sequence[Task[Item]], width: int, *, interval: float, in_order: bool = False
) -> Iterator[Item | None]: ...


def run_concurrently(
    tasks: Sequence[Task[Item]],
    width: int,
    *,
    in_order: bool = False,
    size: Callable[[Item], int] = lambda _: 0,
    interval: float | None = None,
) -> Iterator[Item] | Iterator[Item | None]:
    """Yield what the tasks yield, the items of one task in its order.

    Threads wait while nobody reads, so memory is bounded. An error of a task is raised to the reader, after the other
    tasks were told to stop; so is an early end of the reader.

    Args:
        tasks: functions that return an iterator each.
        width: how many run at a time. With one, they run in the thread of the reader.
        in_order: yield the items of each task after those of the tasks before it. The items of at most twice `width`
            tasks wait for their turn.
        size: bytes of an item. A thread holds back at most 100 items or 1 MiB.
        interval: seconds after which None is yielded while nothing comes: a heartbeat, so that the reader notices a
            request to stop.
    """
    if interval is None and (width <= 1 or len(tasks) <= 1):
        for task in tasks:
            yield from task()
        return
    pool = _Pool(tasks, max(1, min(width, len(tasks))), size)
    try:
        for chunk in pool.read(interval, in_order=in_order):
            yield from [None] if chunk is None else chunk
    finally:
        pool.stop()


class _Pool(Generic[T]):
    """Threads that take one task after the other, and a queue of (number of the task, items, was it the last chunk)."""

    def __init__(self, tasks: Sequence[Task[T]], width: int, size: Callable[[T], int]) -> None:
        self._count = len(tasks)
        self._tasks = iter(enumerate(tasks))
        self._taking = Lock()
        self._size = size
        self._ahead = Semaphore(2 * width)  # tasks that were begun and are not read to their end
        self._chunks: Queue[tuple[int, list[T], bool] | BaseException] = Queue(maxsize=width)
        self._stopping = Event()
        # Daemons: a thread that still waits for a server must not keep the process alive.
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(width)]
        for thread in self._threads:
            thread.start()

    def read(self, interval: float | None, *, in_order: bool) -> Iterator[list[T] | None]:
        """Yield the chunks, and None for each `interval` seconds without one. Raise the first error of a task."""
        waiting: defaultdict[int, list[T]] = defaultdict(list)  # by number of a task whose turn has not come
        ended: set[int] = set()
        done = 0  # tasks that were read to their end
        while done < self._count:
            try:
                found = self._chunks.get(timeout=interval)
            except Empty:
                yield None
                continue
            if isinstance(found, BaseException):
                raise found
            number, chunk, last = found
            if not in_order:
                yield chunk
                if last:
                    done += 1
                    self._ahead.release()
                continue
            waiting[number] += chunk
            ended |= {number} if last else set()
            yield waiting.pop(done, [])
            while done in ended:
                done += 1
                self._ahead.release()
                yield waiting.pop(done, [])

    def stop(self) -> None:
        """Tell the threads to stop, and wait a while for them."""
        self._stopping.set()
        give_up = monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, give_up - monotonic()))

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._run(*task)
        except BaseException as error:  # raised again where it is read
            self._hand_over(error)

    def _next(self) -> tuple[int, Task[T]] | None:
        while not self._ahead.acquire(timeout=POLL):
            if self._stopping.is_set():
                return None
        with self._taking:
            return None if self._stopping.is_set() else next(self._tasks, None)

    def _run(self, number: int, task: Task[T]) -> None:
        chunk: list[T] = []
        size = 0
        for item in task():
            chunk.append(item)
            size += self._size(item)
            if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
                self._hand_over((number, chunk, False))
                chunk, size = [], 0
            if self._stopping.is_set():
                return
        self._hand_over((number, chunk, True))

    def _hand_over(self, found: tuple[int, list[T], bool] | BaseException) -> None:
        while not self._stopping.is_set():
            try:
                self._chunks.put(found, timeout=POLL)
            except Full:
                continue
            return

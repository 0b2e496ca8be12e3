"""Several streams of items at a time, as one: bounded in number and in memory, and ended cleanly.

Each task is a function that returns an iterator. `width` threads take one task after the other and hand over what it
yields in parcels; they wait while nobody takes them. An error of one task is raised in the thread that reads, after
the others were told to stop. They are daemons: one that still waits for a server keeps no process alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
T = TypeVar("T")
Task = Callable[[], Iterator[Item]]

PARCEL = 100  # items
PARCEL_BYTES = 1 << 20
POLL = 0.1  # seconds between two looks at whether to stop
LOOKS = 50  # that an early end waits for the threads: 5 s


def side_by_side(tasks: Sequence[Task[Item]], width: int) -> Iterator[Item]:
    """What all tasks yield: those of one task in its order, with at most `width` tasks at a time."""
    if width <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield from task()
        return
    streams = _Streams[Item](min(width, len(tasks)))
    for task in tasks:
        streams.add(task)
    streams.close()
    yield from streams.read()


def growing(first: Callable[[Callable[[Task[Item]], None]], Iterator[Item]], width: int) -> Iterator[Item]:
    """What the task `first` yields, and what the tasks yield that it adds meanwhile, by what it is given."""
    if width <= 1:
        tasks: deque[Task[Item]] = deque()
        yield from first(tasks.append)
        for task in tasks:
            yield from task()
        return
    streams = _Streams[Item](width)

    def run() -> Iterator[Item]:
        try:
            yield from first(streams.add)
        finally:
            streams.close()

    streams.add(run)
    yield from streams.read()


class _Streams(Generic[T]):
    """Threads that take tasks from a queue: add tasks, close it, and read."""

    def __init__(self, width: int) -> None:
        self._tasks: SimpleQueue[Task[T] | None] = SimpleQueue()  # None: no task comes any more
        self._stopping = Event()
        self._parcels: Queue[list[T] | BaseException | None] = Queue(maxsize=width)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(width)]

    def add(self, task: Task[T]) -> None:
        self._tasks.put(task)

    def close(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)

    def read(self) -> Iterator[T]:
        for thread in self._threads:
            thread.start()
        try:
            yield from self._read()
        finally:
            self._stop()

    def _read(self) -> Iterator[T]:
        running = len(self._threads)
        while running:
            parcel = self._parcels.get()
            if isinstance(parcel, BaseException):
                raise parcel
            if parcel is None:
                running -= 1
            else:
                yield from parcel

    def _stop(self) -> None:
        self._stopping.set()
        for _ in range(LOOKS):
            self._empty()
            waiting = next((thread for thread in self._threads if thread.is_alive()), None)
            if waiting is None:
                return
            waiting.join(POLL)

    def _empty(self) -> None:
        try:
            while True:
                self._parcels.get_nowait()
        except Empty:
            pass

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._run(task)
            self._hand_over(None)
        except BaseException as error:  # raised again where it is read
            self._hand_over(error)

    def _next(self) -> Task[T] | None:
        while not self._stopping.is_set():
            try:
                return self._tasks.get(timeout=POLL)
            except Empty:
                continue
        return None

    def _run(self, task: Task[T]) -> None:
        parcel: list[T] = []
        size = 0
        for item in task():
            parcel.append(item)
            size += len(getattr(item, "raw", ""))
            if len(parcel) >= PARCEL or size >= PARCEL_BYTES:
                self._hand_over(parcel)
                parcel, size = [], 0
            if self._stopping.is_set():
                return
        if parcel:
            self._hand_over(parcel)

    def _hand_over(self, parcel: list[T] | BaseException | None) -> None:
        while not self._stopping.is_set():
            try:
                self._parcels.put(parcel, timeout=POLL)
            except Full:
                continue
            return

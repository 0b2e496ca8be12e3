"""Several streams of items at a time, as one: bounded in number and in memory, and ended cleanly.

Each task is a function that returns an iterator. `width` threads take one task after the other and hand over what it
yields in parcels; they wait while nobody takes them. An error of one task is raised in the thread that reads, after
the others were told to stop. They are daemons: one that still waits for a server keeps no process alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread
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
    streams = _Streams(tasks, width)
    try:
        yield from streams.read()
    finally:
        streams.stop()


class _Streams(Generic[T]):
    def __init__(self, tasks: Sequence[Task[T]], width: int) -> None:
        self._tasks = iter(tasks)
        self._taking = Lock()
        self._stopping = Event()
        self._parcels: Queue[list[T] | BaseException | None] = Queue(maxsize=width)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(min(width, len(tasks)))]
        for thread in self._threads:
            thread.start()

    def read(self) -> Iterator[T]:
        running = len(self._threads)
        while running:
            parcel = self._parcels.get()
            if isinstance(parcel, BaseException):
                raise parcel
            if parcel is None:
                running -= 1
            else:
                yield from parcel

    def stop(self) -> None:
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
            while (task := self._next()) is not None and not self._stopping.is_set():
                self._run(task)
            self._hand_over(None)
        except BaseException as error:  # raised again where it is read
            self._hand_over(error)

    def _next(self) -> Task[T] | None:
        with self._taking:
            return next(self._tasks, None)

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

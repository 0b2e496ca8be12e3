"""Jobs that need each other, done two at once where an engine does so: each as soon as what it needs is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from threading import Condition

from mappers.engine import ABREAST, Engine


@dataclass(frozen=True)
class Job:
    """Something to do with an engine, after the jobs that it `needs` by name."""

    work: Callable[[Engine], object]
    needs: Collection[str] = ()


def run(engine: Engine, jobs: Mapping[str, Job]) -> None:
    """Do all jobs by `Engine.each`. What holds up most is done first. After an error no further job is begun."""
    queue = _Queue(jobs)
    engine.each(queue.work, range(ABREAST), ())


class _Queue:
    """The jobs that are left, for several threads."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._order = TopologicalSorter({name: job.needs for name, job in jobs.items()})
        self._order.prepare()
        self._after = _chains(jobs)
        self._ready: list[str] = []
        self._changed = Condition()
        self._failed = False

    def work(self, engine: Engine, _number: int) -> None:
        while (name := self._next()) is not None:
            try:
                self._jobs[name].work(engine)
            except BaseException:
                self._end(name, failed=True)
                raise
            self._end(name)

    def _next(self) -> str | None:
        with self._changed:
            while self._order.is_active() and not self._failed:
                self._ready += self._order.get_ready()
                if self._ready:
                    name = max(self._ready, key=self._after.__getitem__)
                    self._ready.remove(name)
                    return name
                self._changed.wait()
            return None

    def _end(self, name: str, *, failed: bool = False) -> None:
        with self._changed:
            self._order.done(name)
            self._failed = self._failed or failed
            self._changed.notify_all()


def _chains(jobs: Mapping[str, Job]) -> dict[str, int]:
    """Of each job, how many come one after the other from it to an end."""
    chains = dict.fromkeys(jobs, 1)
    for name in reversed(list(TopologicalSorter({name: job.needs for name, job in jobs.items()}).static_order())):
        for needed in jobs[name].needs:
            chains[needed] = max(chains[needed], chains[name] + 1)
    return chains

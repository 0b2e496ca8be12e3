"""Steps that need each other, done two at once where an engine does so: each as soon as what it needs is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from threading import Condition

from mappers.engines.duckdb import ABREAST, Engine


@dataclass(frozen=True)
class Step:
    """Something to do with an engine, after the steps that it `needs` by name."""

    work: Callable[[Engine], object]
    needs: Collection[str] = ()


def run(engine: Engine, steps: Mapping[str, Step]) -> None:
    """Do all steps by `Engine.each`. What most wait for is done first. After an error no further step is begun."""
    queue = _Queue(steps)
    engine.each(queue.work, range(ABREAST), ())


class _Queue:
    """The steps that are left, for several threads."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._order = TopologicalSorter({name: step.needs for name, step in steps.items()})
        self._order.prepare()
        self._after = _chains(steps)
        self._ready: list[str] = []
        self._changed = Condition()
        self._failed = False

    def work(self, engine: Engine, _number: int) -> None:
        while (name := self._next()) is not None:
            try:
                self._steps[name].work(engine)
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


def _chains(steps: Mapping[str, Step]) -> dict[str, int]:
    """Of each step, how many come one after the other from it to an end."""
    chains = dict.fromkeys(steps, 1)
    for name in reversed(list(TopologicalSorter({name: step.needs for name, step in steps.items()}).static_order())):
        for needed in steps[name].needs:
            chains[needed] = max(chains[needed], chains[name] + 1)
    return chains

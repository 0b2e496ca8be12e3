"""`make sequences` works: its lake in memory does what the machine asks of the real one."""

from __future__ import annotations

import pytest

from connectors.lake import reconcile
from tests import sequences


def test_a_few_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "duckdb", sequences.OpenedOnce())
    done, synced = sequences.run(1, steps=12, examples=3)
    assert done >= 3
    assert synced > 0

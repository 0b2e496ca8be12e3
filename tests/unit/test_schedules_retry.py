"""A run of cron or of a timer that fails is tried again as `serve` does: with growing pauses, within a window."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schedules.errors import AuthenticationFailed, ConfigError, LockBusyError, NoSiteError, StopRequested
from schedules.run.ledger import open_ledger
from schedules.run.retry import retried

START = datetime(2026, 5, 1, 1, 30, tzinfo=UTC)


@dataclass
class Night:
    """A night in which each try takes a minute and ends with the next of `ends`; None is a good end."""

    folder: Path
    ends: list[BaseException | None]
    recorded: bool = True
    now: datetime = START
    pauses: list[float] = field(default_factory=list)

    def attempt(self) -> str:
        end = self.ends.pop(0)
        if not self.recorded:
            assert end is not None
            raise end
        with open_ledger(self.folder / "runs.sqlite") as ledger, ledger.record("run", lambda: self.now):
            self.now += timedelta(minutes=1)
            if end is not None:
                raise end
        return "done"

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds / 60)
        self.now += timedelta(seconds=seconds)

    def run(self, hours: float = 4) -> str:
        return retried(self.attempt, self.folder / "runs.sqlite", timedelta(hours=hours), lambda: self.now, self.sleep)


def down() -> NoSiteError:
    return NoSiteError("milan: down")


def test_fault_139_a_run_that_fails_is_tried_again_until_it_is_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night = Night(tmp_path, [down(), down(), ValueError("canary of a patient"), None])
    assert night.run() == "done"
    assert night.pauses == [5, 10, 20]
    assert "tried again at 2026-05-01T01:36Z: milan: down" in caplog.text
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


def test_fault_139_after_the_window_it_has_failed(tmp_path: Path) -> None:
    night = Night(tmp_path, [down() for _ in range(20)])
    with pytest.raises(NoSiteError):
        night.run()
    # 5 + 10 + 20 + 40 + 80 minutes and six tries of one are 161; the next pause of 160 would end after four hours.
    assert night.pauses == [5, 10, 20, 40, 80]


def test_fault_139_without_a_window_there_is_one_try(tmp_path: Path) -> None:
    night = Night(tmp_path, [down(), None])
    with pytest.raises(NoSiteError):
        night.run(hours=0)
    assert night.pauses == []


@pytest.mark.parametrize("end", [ConfigError("x"), AuthenticationFailed("x"), LockBusyError("x"), StopRequested()])
def test_fault_139_what_a_pause_cannot_mend_is_not_tried_again(tmp_path: Path, end: BaseException) -> None:
    night = Night(tmp_path, [end, None])
    with pytest.raises(type(end)):
        night.run()
    assert night.pauses == []


def test_fault_139_what_fails_before_it_begins_is_not_tried_for_ever(tmp_path: Path) -> None:
    night = Night(tmp_path, [down(), None], recorded=False)
    with pytest.raises(NoSiteError):
        night.run()
    assert night.pauses == []

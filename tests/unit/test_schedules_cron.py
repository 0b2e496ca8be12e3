"""Slots of a nightly schedule. Expected instants from the tables of the time zone: Europe/Rome, UTC+1, summer UTC+2.

2026-03-29 02:00 -> 03:00 (01:00Z); 2026-10-25 03:00 -> 02:00 (01:00Z).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schedules.config.cron import CronSchedule

ROME = ZoneInfo("Europe/Rome")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(cron: CronSchedule, start: datetime, end: datetime) -> list[datetime]:
    found, slot = [], cron.next_after(start)
    while slot is not None and slot < end:
        found.append(slot)
        slot = cron.next_after(slot)
    return found


def test_a_plain_schedule() -> None:
    cron = CronSchedule("30 1 * * *", ZoneInfo("UTC"))
    assert cron.next_after(at("2026-05-01T01:29")) == at("2026-05-01T01:30")
    assert cron.next_after(at("2026-05-01T01:30")) == at("2026-05-02T01:30")
    assert cron.last_until(at("2026-05-01T01:30")) == at("2026-05-01T01:30")
    assert cron.last_until(at("2026-05-01T01:30:00.5")) == at("2026-05-01T01:30")
    assert cron.last_until(at("2026-05-01T01:29")) == at("2026-04-30T01:30")


def test_a_slot_in_the_skipped_hour_comes_once_right_after_the_jump() -> None:
    cron = CronSchedule("30 2 * * *", ROME)
    found = slots(cron, at("2026-03-27T12:00"), at("2026-03-31T12:00"))
    assert found == [
        at("2026-03-28T01:30"),
        at("2026-03-29T01:00"),  # 02:30 does not exist; the clock jumps from 02:00 to 03:00
        at("2026-03-30T00:30"),
        at("2026-03-31T00:30"),
    ]


def test_two_slots_in_the_skipped_hour_come_together() -> None:
    cron = CronSchedule("15,45 2 * * *", ROME)
    found = slots(cron, at("2026-03-28T12:00"), at("2026-03-29T12:00"))
    assert found == [at("2026-03-29T01:00")]


def test_a_slot_in_the_repeated_hour_comes_once() -> None:
    cron = CronSchedule("30 2 * * *", ROME)
    found = slots(cron, at("2026-10-23T12:00"), at("2026-10-27T12:00"))
    assert found == [
        at("2026-10-24T00:30"),
        at("2026-10-25T00:30"),  # the first 02:30; the second is at 01:30Z
        at("2026-10-26T01:30"),
        at("2026-10-27T01:30"),
    ]


def test_a_star_follows_the_clock_as_it_is_shown() -> None:
    cron = CronSchedule("*/30 2 * * *", ROME)
    assert slots(cron, at("2026-03-28T12:00"), at("2026-03-29T12:00")) == []
    found = slots(cron, at("2026-10-24T12:00"), at("2026-10-25T12:00"))
    assert found == [at(f"2026-10-25T{time}") for time in ("00:00", "00:30", "01:00", "01:30")]


@pytest.mark.parametrize("zone", ["Europe/Rome", "Australia/Lord_Howe", "America/New_York", "Asia/Kolkata", "UTC"])
def test_every_wall_clock_day_of_a_year_has_one_slot(zone: str) -> None:
    cron = CronSchedule("15 2 * * *", ZoneInfo(zone))
    found = slots(cron, at("2026-01-01T12:00"), at("2027-01-01T12:00"))
    assert len(found) == 365
    days = [slot.astimezone(ZoneInfo(zone)).date() for slot in found]
    assert len(set(days)) == 365


@pytest.mark.parametrize("change", ["2026-03-28T00:00", "2026-10-24T00:00"])
def test_last_and_next_agree(change: str) -> None:
    cron = CronSchedule("30 2 * * *", ROME)
    for step in range(3 * 48):
        instant = at(change) + step * timedelta(minutes=30)
        last, following = cron.last_until(instant), cron.next_after(instant)
        assert last is not None
        assert following is not None
        assert last <= instant < following
        assert cron.next_after(last) == following


@pytest.mark.parametrize(
    ("field", "weekdays"),  # crontab: 0 and 7 are Sunday. datetime.weekday(): Monday is 0
    [
        ("1", {0}),
        ("0", {6}),
        ("7", {6}),
        ("1-5", {0, 1, 2, 3, 4}),
        ("0-2", {6, 0, 1}),
        ("5-7", {4, 5, 6}),
        ("mon,3", {0, 2}),
        ("1-5/2", {0, 2, 4}),
    ],
)
def test_weekdays_are_those_of_crontab(field: str, weekdays: set[int]) -> None:
    cron = CronSchedule(f"0 3 * * {field}", ZoneInfo("UTC"))
    found = slots(cron, at("2026-06-01T00:00"), at("2026-06-15T00:00"))  # two weeks from a Monday
    assert {slot.weekday() for slot in found} == weekdays
    assert len(found) == 2 * len(weekdays)


def test_day_of_month_and_day_of_week_together_mean_either() -> None:
    cron = CronSchedule("0 3 10 * 1", ZoneInfo("UTC"))  # the 10th, and every Monday
    found = slots(cron, at("2026-06-01T00:00"), at("2026-06-16T00:00"))
    assert [slot.day for slot in found] == [1, 8, 10, 15]


def test_day_of_month_that_begins_with_a_star_and_day_of_week_mean_both() -> None:
    cron = CronSchedule("0 3 */2 * 1", ZoneInfo("UTC"))  # Mondays on an odd day
    found = slots(cron, at("2026-06-01T00:00"), at("2026-06-30T00:00"))
    assert [slot.day for slot in found] == [1, 15, 29]


def test_a_rare_slot_is_found() -> None:
    cron = CronSchedule("0 3 29 2 *", ZoneInfo("UTC"))
    assert cron.next_after(at("2026-01-01T00:00")) == at("2028-02-29T03:00")
    assert cron.last_until(at("2026-01-01T00:00")) == at("2024-02-29T03:00")


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("", "has 0 fields"),
        ("30 1 * *", "has 4 fields"),
        ("0 30 1 * * *", "has 6 fields"),
        ("30 25 * * *", "not five cron fields .*: bad hour"),
        ("30 1 * * 5-1", "not five cron fields .*: bad day-of-week"),
        ("30 1 * * lun", "not five cron fields .*: bad day-of-week"),
        ("30 1 30 2 *", "not five cron fields .*: bad day-of-month, or one that none of these months has"),
    ],
)
def test_a_wrong_expression_is_explained(expression: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        CronSchedule(expression, ZoneInfo("UTC"))

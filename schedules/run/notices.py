"""Messages about the nightly runs, one for each change: a run failed, a site is missing, it is well again.

The conditions are read from `schedules.run.status`, so that a message never says what `periop status` does not. What
each target was told is kept in ``notified.json`` in the data folder; a target that cannot be reached is told later.
No message holds data of a patient: the sentences are those of the run ledger.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.lake.files import write_atomically
from schedules.errors import PeriopError, is_user_facing, user_message
from schedules.run.status import status

if TYPE_CHECKING:
    from schedules.config.notify_settings import MailNotice, WebhookNotice
    from schedules.config.settings import Settings
    from schedules.run.ledger import Clock

log = logging.getLogger(__name__)

TOLD = "notified.json"
SENTENCES = 3  # of one site: the rest is in `periop status`
Conditions = Mapping[str, str]  # by what it is about, e.g. "site milan": the sentence
Send = Callable[["MailNotice | WebhookNotice", "Notice"], None]


@dataclass(frozen=True)
class Notice:
    """One message: what is wrong since the last one, what still is, what no longer is, as sentences."""

    study: str
    at: datetime
    new: Sequence[str]
    remaining: Sequence[str]
    recovered: Sequence[str]

    @property
    def subject(self) -> str:
        """Return one line that says the most."""
        if self.new:
            more = f", and {len(self.new) - 1} more" if len(self.new) > 1 else ""
            return f"periop {self.study}: {_first_words(self.new[0])}{more}"
        what = "recovered" if not self.remaining else f"recovered in part, {len(self.remaining)} left"
        return f"periop {self.study}: {what}"

    @property
    def text(self) -> str:
        """Return the message."""
        parts = [
            *_paragraph("New:", self.new),
            *_paragraph("Well again:", self.recovered),
            *_paragraph("As before:", self.remaining),
            f"{self.at:%Y-%m-%d %H:%M} UTC. `periop status` has the details. Each problem is told once.",
        ]
        return "\n".join(parts)


def _first_words(sentence: str) -> str:
    return sentence.partition(":")[0][:100]


def _paragraph(title: str, sentences: Sequence[str]) -> list[str]:
    return [title, *(f"  - {sentence}" for sentence in sentences), ""] if sentences else []


def conditions(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong according to the status `found` (`schedules.run.status.status`), by what it is about."""
    wrong, night = {}, found["last_night"]
    if night is not None:
        if night["status"] == "failed":
            wrong["run"] = f"the nightly run failed: {night['error'] or 'see the log'}"
        elif night["status"] == "interrupted":  # by a kill: runs that were told to stop are not asked about
            wrong["run"] = "the nightly run was killed: perhaps for want of memory (journalctl -k tells)"
        elif night["status"] == "withheld":
            wrong["release"] = "nothing could be released: disclosure control suppressed it, `periop publish` says why"
        # Before the first night nothing has been asked of a site, and after a failure the run says why.
        for site in found["sites"]:
            if site["status"] not in ("ok", None):
                wrong[f"site {site['site']}"] = f"site {site['site']} is not up to date {_state(site)}"
    if found["stale"] and found["last_good_run"] is not None:
        wrong["stale"] = f"no good run: the last one ended at {found['last_good_run']}"
    return wrong


def _state(site: Mapping[str, Any]) -> str:
    messages = [str(each) for each in site["messages"]]
    more = f" (and {len(messages) - SENTENCES} more)" if len(messages) > SENTENCES else ""
    return f"({site['status']}): {'; '.join(messages[:SENTENCES]) or 'periop status has why'}{more}"


def changes(told: Conditions, wrong: Conditions, study: str, at: datetime) -> Notice | None:
    """Return the message to somebody who was told `told`, when `wrong` holds now; None where that is the same."""
    new = [sentence for about, sentence in wrong.items() if about not in told]
    recovered = [sentence for about, sentence in told.items() if about not in wrong]
    if not (new or recovered):
        return None
    return Notice(study, at, new, [wrong[about] for about in wrong if about in told], recovered)


def tell(settings: Settings, now: datetime, send: Send) -> dict[str, str | None]:
    """Tell each target what changed since it was told. Writes ``notified.json``.

    Returns by target that had to be told what went wrong, or None: it was told.
    """
    if not settings.notify:
        return {}
    found, _ = status(settings, now)
    wrong, file = conditions(found), settings.data_dir / TOLD
    known, study = _read(file), Path(settings.study).stem
    results: dict[str, str | None] = {}
    for target in settings.notify:
        notice = changes(known.get(target.where, {}), wrong, study, now)
        if notice is None:
            continue
        try:
            send(target, notice)
        except PeriopError as error:  # a secret is missing, or the server cannot be reached
            results[target.where] = str(error)
            continue
        known[target.where] = dict(wrong)
        results[target.where] = None
    if None in results.values():
        wanted = {target.where: known.get(target.where, {}) for target in settings.notify}
        write_atomically(file, json.dumps(wanted, indent=1).encode())
    return results


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(file.read_bytes())
        return {str(where): {str(k): str(v) for k, v in told.items()} for where, told in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # told once too often rather than never


@contextmanager
def telling(settings: Settings, clock: Clock, send: Send) -> Iterator[None]:
    """Tell the targets when the body has ended, however it ended. What goes wrong with that is logged, never raised."""
    try:
        yield
    finally:
        tell_or_log(settings, clock(), send)


def tell_or_log(settings: Settings, now: datetime, send: Send) -> None:
    """Tell the targets; log what goes wrong, because no message is worth a night."""
    try:
        for where, error in tell(settings, now, send).items():
            if error is not None:
                log.error("%s: %s; it is told as soon as it can be reached", where, error)
    except Exception as error:
        # The message of a bug may quote a record, so only its kind is logged.
        reason = user_message(error) if is_user_facing(error) else type(error).__name__
        log.error("nobody could be told how the run ended: %s", reason)

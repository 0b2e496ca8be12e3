"""Compare two results.json figure by figure: which numbers differ, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from schedules.errors import NothingYetError, PublishError
from schedules.release.release_ledger import ReleaseLedger

Json = Mapping[str, Any]
Number = int | float | None
Name = tuple[str, str, str]
# What two results must share to be of the same patients by the same rules
CONTEXT = ("study", "data_cut", "study_hash", "sites", "sites_missing")
NOT_LISTED = "not listed"


@dataclass(frozen=True)
class Difference:
    """One number that differs: of `statistic` of the figure `id`. A text where there is no number: its status."""

    section: str
    id: str
    label: str
    statistic: str
    a: Number | str
    b: Number | str

    @property
    def change(self) -> Number:
        """Return b less a, None where one of them is no number."""
        if isinstance(self.a, str) or isinstance(self.b, str) or self.a is None or self.b is None:
            return None
        return self.b - self.a if isinstance(self.a, int) and isinstance(self.b, int) else round(self.b - self.a, 6)


def read_results(file: Path) -> Json:
    """Return the content of a results.json. Raises `PublishError` where it is none."""
    try:
        content = orjson.loads(file.read_bytes())
    except OSError as error:
        raise PublishError(f"{file}: cannot be read ({error.strerror}); give a results.json or a release") from None
    except orjson.JSONDecodeError:
        raise PublishError(f"{file}: is no JSON; give a results.json or a release") from None
    if not isinstance(content, dict) or content.get("schema") != "periop.results/1":
        raise PublishError(f"{file}: is no results.json of periop (schema periop.results/1)")
    return content


def read_release(number: int, releases_dir: Path, ledger: ReleaseLedger) -> Json:
    """Return results.json of a release, of one that was withdrawn by the ledger. Raises `NothingYetError`."""
    file = releases_dir / str(number) / "results.json"
    if file.is_file():
        return read_results(file)
    found = [entry.results for entry in ledger.past() if entry.release == number and entry.results is not None]
    if not found:
        raise NothingYetError(f"{releases_dir}: holds no release {number}, and the release ledger knows of none")
    return found[-1]


def context_differences(a: Json, b: Json) -> dict[str, tuple[Any, Any]]:
    """Return what is not the same around the figures: the study, its rules, the data cutoff, the sites, `min_cell`."""
    pairs = {name: (a.get(name), b.get(name)) for name in CONTEXT}
    pairs["min_cell"] = tuple((each.get("disclosure") or {}).get("min_cell") for each in (a, b))  # type: ignore[assignment]
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def differences(a: Json, b: Json) -> tuple[Difference, ...]:
    """Return the numbers that differ between two results.json, in the order of b, then those that only a has."""
    in_a, in_b = dict(_numbers(a)), dict(_numbers(b))
    names = dict.fromkeys((*in_b, *in_a))
    # Not 0: a release does not say of a term that it leaves out whether anybody had it.
    absent = ("", NOT_LISTED)
    found = ((name, in_a.get(name, absent), in_b.get(name, absent)) for name in names)
    return tuple(
        Difference(name[0], name[1], before[0] or after[0], name[2], before[1], after[1])
        for name, before, after in found
        if before[1] != after[1]
    )


def _numbers(results: Json) -> Iterator[tuple[Name, tuple[str, Number | str]]]:
    """Yield each number with its label, by section, id and statistic; the status in place of one that is not there."""
    names = {
        "proportions": ("x", "n", "percent"),
        "quantiles": ("n", "missing", "median", "q1", "q3"),
        "survival": ("n", "events", "median"),
        "flow": ("n",),
    }
    for section, statistics in names.items():
        for figure in results.get(section, ()):
            for statistic in statistics:
                value = figure.get(statistic)
                # A median has a status of its own: not reached.
                why = figure.get("median_status") if statistic == "median" else figure.get("status")
                shown = value if value is not None else why or "none"
                yield (section, figure["id"], statistic), (figure["label"], shown)
            yield from _interval(section, figure)
            if section == "survival":
                yield from _steps(figure)
    for item in results.get("quality", ()):
        name = " ".join((item["site"], item["domain"]))
        count = item["count"] if item["count"] is not None else item["status"]
        yield ("quality", f"{name}: {item['issue']}", "count"), (item["issue"], count)


def _interval(section: str, figure: Json) -> Iterator[tuple[Name, tuple[str, Number | str]]]:
    for side in ("low", "high"):
        if (limit := (figure.get("ci") or {}).get(side)) is not None:
            yield (section, figure["id"], f"ci_{side}"), (figure["label"], limit)


def _steps(figure: Json) -> Iterator[tuple[Name, tuple[str, Number | str]]]:
    for kind, points in (("landmark", figure["landmarks"]), ("curve", figure["curve"])):
        for point in points:
            for statistic in ("at_risk", "events", "censored", "s"):
                if (value := point.get(statistic)) is not None:
                    name = f"{kind} {point['t']:g} months {statistic}"
                    yield ("survival", figure["id"], name), (figure["label"], value)

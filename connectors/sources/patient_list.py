"""Reads a list of patients that somebody made for periop: ids, or identifiers of a system, in a CSV file.

A first line with column names says what is in it: `id` (of the Patient on the server), or `system` and `value` of an
identifier (FHIR R4, datatypes.html#identifier). Other columns are not read, so the list may have names in it that go no
further. Without such a line each line is an id.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ID = re.compile(r"[A-Za-z0-9\-.]{1,256}")  # up to 64 in FHIR; some servers have longer ones
SYSTEM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")  # an absolute URI, as Identifier.system must be
# What a spreadsheet makes of a long number: the last digits are lost, and it may be the number of somebody else.
SPREADSHEET = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+", re.IGNORECASE)
DELIMITERS = ",;\t"
SHOWN = 20  # line numbers in a message


@dataclass(frozen=True)
class PatientList:
    """A list of patients. Nothing in it is to be shown but the numbers of its lines, which begin at 1.

    ids: the line of each id. identifiers: the line of each (system, value). unreadable: lines that say nobody.

    >>> made = read_patient_list("id,name\\na,Smith\\n,Jones\\n")
    >>> sorted(made.ids), made.unreadable
    (['a'], (3,))
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    identifiers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unreadable: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ids or self.identifiers)


def read_patient_list(text: str) -> PatientList | None:
    """Return the list in the text of a file; None where its first line has columns of other names."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        return PatientList()
    delimiter = max(DELIMITERS, key=lines[0][1].count)
    rows = [(number, _cells(line, delimiter)) for number, line in lines]
    names = [cell.lower() for cell in rows[0][1]]
    if "id" in names or {"system", "value"} <= set(names):
        return _collect(_named(rows[1:], names))
    if len(names) > 1:
        return None
    return _collect((number, {"id": cells[0]} if len(cells) == 1 else {}) for number, cells in rows)


def lines_of(numbers: Sequence[int]) -> str:
    """Return line numbers as words.

    >>> lines_of([3]), lines_of([3, 7])
    ('line 3', 'lines 3, 7')
    """
    shown = ", ".join(str(each) for each in sorted(numbers)[:SHOWN])
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _cells(line: str, delimiter: str) -> list[str]:
    # Line by line, so that a quotation mark that is left open spoils one row and not all that follow.
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _named(rows: Sequence[tuple[int, list[str]]], names: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in rows:
        yield number, dict(zip(names, cells, strict=False))


def _collect(rows: Iterator[tuple[int, dict[str, str]]]) -> PatientList:
    ids: dict[str, int] = {}
    identifiers: dict[tuple[str, str], int] = {}
    unreadable = []
    for number, row in rows:
        id_ = row.get("id", "").removeprefix("Patient/")
        system, value = row.get("system", ""), row.get("value", "")
        if ID.fullmatch(id_):
            ids.setdefault(id_, number)
        # Without its system the same value may be the number of another patient.
        elif not id_ and SYSTEM.fullmatch(system) and value and not SPREADSHEET.fullmatch(value):
            identifiers.setdefault((system, value), number)
        else:
            unreadable.append(number)
    return PatientList(ids, identifiers, tuple(unreadable))

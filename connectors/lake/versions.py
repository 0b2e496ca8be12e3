"""The versions that one sync has to remember, by key, in bounded memory however many there are.

Up to `held` of them are in a dict; beyond that they go, sorted by key, into a SQLite table in a file without a name
beside the lake (the system frees it when the process ends, however it ends). Of that SQLite keeps at most 4 MiB in
memory, and a filter of 2 MiB answers for most keys that are not in it. So memory stays what it is from some 100,000
keys on.

How a sync uses it (connectors.lake.reconcile, connectors.sync):

    with Versions(lake.path.parent) as current, Versions(lake.path.parent) as pulled:
        current.load(…)                     # (key, Seen) of every version in the lake; the newest of each key stays
        pulled.get(key), pulled.put(key, seen), pulled.remove(key)
        for key, seen in current.items(): … # all of them, once, sorted by key: a reconcile
    Keys: a set of keys of the same kind; `add` says whether the key is new, `key in keys` whether it is there.

One thread at a time may use a store; which one does not matter.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from connectors.errors import SpoolError

HELD = 20_000  # entries in memory between two writes: some 5 MB
CACHE = 4_096  # KiB that SQLite may keep of a file: where ids come in no order, more would rarely help
FILTER = 1 << 24  # bits: of a million keys that are not there, it lets 14,000 pass
ROWS = 1_000  # fetched at a time
SETTINGS = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{CACHE}")
TABLE = "CREATE TABLE seen (key TEXT PRIMARY KEY, version TEXT, updated INTEGER, number INTEGER) WITHOUT ROWID"
PUT = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)"
PUT_NEWEST = (
    "INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET version = excluded.version, updated = excluded.updated, number = excluded.number "
    "WHERE (excluded.updated, excluded.number) > (updated, number)"
)


class Seen(msgspec.Struct, frozen=True, gc=False):  # made faster than a frozen dataclass, and in no cycle
    """A version, as `connectors.lake.reconcile.version` names it, and its last update in us since 1970.

    order: the number of its sync if it is in the lake, of its row in the spool if it is of this pull.
    """

    version: str
    updated: int
    order: int


class Versions:
    """Versions by key, as a dict would hold them. Close it, or use it in `with`.

    Args:
        folder: where the file lies if one is needed; made if it is missing.
        held: how many entries may be in memory.

    Every method raises SpoolError where the file cannot be written or read.
    """

    def __init__(self, folder: Path, held: int = HELD) -> None:
        self._file = _File(folder)
        self._held = held
        self._recent: dict[str, Seen | None] = {}  # None: removed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the file and the memory."""
        self._recent = {}
        self._file.close()

    @property
    def is_empty(self) -> bool:
        """True if nothing was ever put."""
        return not (self._recent or self._file.exists)

    def get(self, key: str) -> Seen | None:
        """The version of this key, None if there is none."""
        if key in self._recent:
            return self._recent[key]
        if not self._file.may_hold(key):
            return None
        row = self._file.row("SELECT version, updated, number FROM seen WHERE key = ?", (key,))
        return None if row is None else Seen(*row)

    def put(self, key: str, seen: Seen) -> None:
        """Remember the version of this key; it takes the place of another."""
        self._set(key, seen)

    def remove(self, key: str) -> None:
        """Forget this key. Harmless if it is not there."""
        self._set(key, None)

    def load(self, versions: Iterable[tuple[str, Seen]]) -> None:
        """Remember the newest of each key, by (updated, order), of these and of what is there."""
        self._flush()
        for key, seen in versions:
            known = self._recent.get(key)
            if known is None or (seen.updated, seen.order) > (known.updated, known.order):
                self._recent[key] = seen
                if len(self._recent) >= self._held:
                    self._write(PUT_NEWEST)
        if self._file.exists:
            self._write(PUT_NEWEST)

    def items(self) -> Iterator[tuple[str, Seen]]:
        """All keys with their versions, sorted by key. Nothing may be put or removed meanwhile."""
        if not self._file.exists:
            yield from ((key, seen) for key, seen in sorted(self._recent.items()) if seen is not None)
            return
        self._flush()
        for key, version, updated, number in self._file.rows("SELECT * FROM seen ORDER BY key"):
            yield key, Seen(version, updated, number)

    def _set(self, key: str, seen: Seen | None) -> None:
        self._recent[key] = seen
        if len(self._recent) >= self._held:
            self._write(PUT)

    def _flush(self) -> None:
        """Put what is in memory into the file, if there is one: then the file alone says what is known."""
        if self._file.exists:
            self._write(PUT)

    def _write(self, statement: str) -> None:
        recent = sorted(self._recent.items())
        kept = [(key, seen.version, seen.updated, seen.order) for key, seen in recent if seen is not None]
        self._file.put(statement, kept)
        self._file.write("DELETE FROM seen WHERE key = ?", [(key,) for key, seen in recent if seen is None])
        self._recent = {}


class Keys:
    """A set of keys, in the memory of `Versions`. Close it, or use it in `with`."""

    def __init__(self, folder: Path, held: int = HELD) -> None:
        self._versions = Versions(folder, held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the file and the memory."""
        self._versions.close()

    def add(self, key: str) -> bool:
        """True if the key was not there before."""
        if key in self:
            return False
        self._versions.put(key, Seen("", 0, 0))
        return True

    def __contains__(self, key: str) -> bool:
        return self._versions.get(key) is not None


class Rows:
    """A set of row numbers from 0, one bit each: 125 KB for a million."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        """Note this row."""
        place, bit = divmod(number, 8)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        self._bits[place] |= 1 << bit

    def __bool__(self) -> bool:
        return bool(self._bits)

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)  # noqa: S101
        place, bit = divmod(number, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


class Filter:
    """Whether a key may be among those that were added: a Bloom filter, two bits for each.

    The bits are those of Python's hash of the key, which is another one in the next process.
    """

    def __init__(self) -> None:
        self._bits = bytearray(FILTER // 8)

    def add(self, key: str) -> None:
        """Note a key; it cannot be taken out again."""
        number = hash(key)
        for place in (number % FILTER, (number >> 32) % FILTER):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, key: str) -> bool:
        number = hash(key)
        one, other = number % FILTER, (number >> 32) % FILTER
        return bool(self._bits[one >> 3] >> (one & 7) & self._bits[other >> 3] >> (other & 7) & 1)


class _File:
    """One SQLite table in a file without a name, made when the first row is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._filter: Filter | None = None
        self._path: Path | None = None  # where a file cannot be taken out of its folder while it is open

    @property
    def exists(self) -> bool:
        return self._connection is not None

    def row(self, query: str, values: tuple[str, ...]) -> tuple[str, int, int] | None:
        """The first row of a query, None if there is none."""
        if self._connection is None:
            return None
        try:  # as _explained does it, but at no cost for each of millions
            found: tuple[str, int, int] | None = self._connection.execute(query, values).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        return found

    def may_hold(self, key: str) -> bool:
        """False where this key was never put: most of the questions, answered without looking into the file."""
        return self._filter is not None and key in self._filter

    def put(self, statement: str, rows: Sequence[tuple[str, str, int, int]]) -> None:
        """Run a statement that puts these rows."""
        self._filter = self._filter or Filter()
        for key, *_ in rows:
            self._filter.add(key)
        self.write(statement, rows)

    def rows(self, query: str) -> Iterator[tuple[str, str, int, int]]:
        """The rows of a query, a thousand in memory at a time."""
        assert self._connection is not None  # noqa: S101  asked for only where there is a file
        with self._explained():
            cursor = self._connection.execute(query)
            while found := cursor.fetchmany(ROWS):
                yield from found

    def write(self, statement: str, rows: Sequence[tuple[str | int, ...]]) -> None:
        """Run a statement for each row."""
        with self._explained():
            if self._connection is None:
                self._connection = self._open()
            self._connection.executemany(statement, rows)

    def close(self) -> None:
        """Free the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection, self._filter = None, None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _open(self) -> sqlite3.Connection:
        """Without a journal: the file is of use to no other process, and to this one only while it is whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".versions-", dir=self._folder)
        os.close(handle)
        self._path = Path(name)
        connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        connection.execute(TABLE)
        connection.execute("BEGIN")
        if os.name == "posix":
            self._path.unlink()
            self._path = None
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SpoolError:
        return SpoolError(
            f"the versions of this sync do not fit into a file in {self._folder} ({error}): "
            "make it writable and free disk space"
        )

"""The files and the log of a Delta table: files that nothing names are found, and the log is kept short."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from connectors.lake.files import flush_to_disk

LOG = "_delta_log"
File = TypeVar("File")
SMALL = 64 << 20  # bytes: a larger file is not merged with others
# A file of a few rows is mostly footer. So few of them are merged that a small cohort takes little more than its rows;
# to write a megabyte anew every few nights costs less than to open the files.
TINY, TINY_FILES = 1 << 20, 4
VERSIONS = ("periop.site.", "periop.fingerprints")  # transactions whose value is the version of a commit to keep


def worth_merging(sizes: Mapping[File, int], at_least: int) -> list[File]:
    """Return the files to merge, given the bytes of each: all small ones where they are `at_least`, or a few tiny ones.

    >>> worth_merging({"a": 10, "b": 10, "c": 10, "d": 10, "e": 2 << 20}, at_least=16)
    ['a', 'b', 'c', 'd']
    """
    small = [file for file, size in sizes.items() if size < SMALL]
    if len(small) >= at_least:
        return small
    tiny = [file for file in small if sizes[file] < TINY]
    return tiny if len(tiny) >= TINY_FILES else []


def named_files(folder: Path, table: DeltaTable) -> dict[Path, int]:
    """Return the data files of the newest version of the table in `folder`, with their bytes."""
    # Not `file_uris`, which writes a blank in the path of the folder as %20.
    found = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    return {
        folder / path: size for path, size in zip(*(found[n].to_pylist() for n in ("path", "size_bytes")), strict=True)
    }


def unnamed_files(folder: Path, named: Iterable[Path | str]) -> list[Path]:
    """Return the data files below `folder` that are not among `named`: replaced by others, or left by a killed run.

    Raises:
        FileNotFoundError: a named file is not there.
    """
    names = [Path(each) for each in named]
    # A name without a file is written in a way that is not understood here, or its file is lost. Then the files that
    # nothing seems to name may be those that the table needs, and none is taken for unused.
    if lost := next((each for each in names if not each.is_file()), None):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(lost))
    used = {str(each.resolve()) for each in names}
    found = (each for each in folder.rglob("*.parquet") if each.relative_to(folder).parts[0] != LOG)
    return sorted(each for each in found if str(each.resolve()) not in used)


def delete_files(files: Iterable[Path]) -> None:
    """Delete files for good."""
    folders = set()
    for file in files:
        file.unlink(missing_ok=True)
        folders.add(file.parent)
    # Until the folder is on disk too, a power cut brings the names back.
    for folder in folders:
        flush_to_disk(folder)


def log_length(folder: Path) -> int:
    """Return the number of commits in the log of the table in `folder`, each a file."""
    return sum(1 for _ in (folder / LOG).glob("*.json"))


def trim_log(folder: Path) -> int:
    """Write a checkpoint of the table in `folder` and delete the commits before it; return how many files.

    Readers begin at the newest checkpoint (Delta protocol, "Checkpoints" and "Metadata Cleanup"), which holds the files
    and the transactions. Commits that a transaction names by their version stay, because their metadata are read.
    """
    table, log = DeltaTable(folder), folder / LOG
    version = table.version()
    table.create_checkpoint()
    checkpoint = log / f"{version:020d}.checkpoint.parquet"
    # All of it must be on disk before anything goes that it stands for.
    for path in (checkpoint, log / "_last_checkpoint", log):
        flush_to_disk(path)
    transactions = [each for each in pq.read_table(checkpoint, columns=["txn"])["txn"].to_pylist() if each]
    kept = {each["version"] for each in transactions if (each["appId"] or "").startswith(VERSIONS)}
    before = [path for path in log.iterdir() if _is_before(path, version)]
    old = [path for path in before if not (_is_commit(path) and _version(path) in kept)]
    delete_files(old)
    return len(old)


def _is_commit(path: Path) -> bool:
    return path.suffix == ".json"


def _is_before(path: Path, version: int) -> bool:
    found = _version(path)
    return found is not None and found < version


def _version(path: Path) -> int | None:
    """Return the version of a commit or a checkpoint, None for another file."""
    number = path.name.partition(".")[0]
    return int(number) if len(number) == 20 and number.isdecimal() else None

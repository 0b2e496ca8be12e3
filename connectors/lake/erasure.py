"""Erases rows of the lake: the files that hold them are written anew without them, and the old files are deleted.

    read, write new files ──one commit──> old files no longer in the table ──> old files deleted

A kill before the commit leaves the lake as it was, one after it leaves files that no reader looks at, which the next
erasure deletes. The Delta log keeps no id and no content: its statistics are of the column `sync` alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from connectors.lake.forgotten import Concerns
from connectors.lake.rewrite import rewrite
from connectors.lake.snapshot import LakeFile
from connectors.lake.table import Lake


def erase_rows(lake: Lake, concerns: Concerns, erased: Callable[[str, str, str], None]) -> Counter[str]:
    """Erase every row that `concerns` is True for, and the deletions of resources of which nothing else is left.

    `erased` is called with site, type and id of each before the commit. Returns the rows erased, by resource type.

    Raises:
        LakeError: a file cannot be read, or nothing could be committed.
    """
    counts: Counter[str] = Counter()
    rewritten: dict[LakeFile, list[int]] = {}
    partitions: defaultdict[tuple[str, str], list[LakeFile]] = defaultdict(list)
    for file in lake.files():
        # All versions of a resource are in one partition, so that each can be decided on its own.
        partitions[file.site, file.resource_type].append(file)
    for (site, kind), files in partitions.items():
        for file, rows in _rows_to_erase(lake, site, kind, files, concerns).items():
            for _, id_ in rows:
                erased(site, kind, id_)
            counts[kind] += len(rows)
            rewritten[file] = [number for number, _ in rows]
    if rewritten:
        rewrite(lake, rewritten)
    return counts


def _rows_to_erase(
    lake: Lake, site: str, kind: str, files: list[LakeFile], concerns: Concerns
) -> dict[LakeFile, list[tuple[int, str]]]:
    """Return (number, id) of the rows of each file of one partition that are to be erased."""
    found: defaultdict[LakeFile, list[tuple[int, str]]] = defaultdict(list)
    deletions: list[tuple[LakeFile, int, str]] = []
    left: set[str] = set()
    for file in files:
        for number, (id_, patient, raw) in enumerate(_read(lake, file)):
            if concerns(site, kind, id_, patient, raw):
                found[file].append((number, id_))
            elif raw is None:
                # A deletion has no content: whether it goes depends on what else there is of the resource.
                deletions.append((file, number, id_))
            else:
                left.add(id_)
    # A resource that changed its subject keeps its other versions, and so its deletion.
    gone = {id_ for rows in found.values() for _, id_ in rows} - left
    for file, number, id_ in deletions:
        if id_ in gone:
            found[file].append((number, id_))
    return dict(found)


def _read(lake: Lake, file: LakeFile) -> Iterator[tuple[str, str | None, str | None]]:
    for batch in lake.read(file, ["id", "patient", "resource"]):
        yield from zip(*(batch[name].to_pylist() for name in ("id", "patient", "resource")), strict=True)

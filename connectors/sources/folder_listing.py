"""The files of a folder as an export client or a person leaves it: what is read, in which order, and what is not.

Clients of Bulk Data write their log and the manifest beside the resources, what was deleted into a folder `deleted`,
errors into `error` and documents into `attachments`; each later export lies in a folder of its own
(https://github.com/smart-on-fhir/bulk-data-client, https://github.com/smart-on-fhir/smart-fetch).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.fhir.lenient import json_or_none
from connectors.fhir.resource import BOM

LINES, DOCUMENT = (".ndjson", ".jsonl"), ".json"
PATTERNS = tuple(f"{end}{gz}" for end in (*LINES, DOCUMENT) for gz in ("", ".gz"))
DELETED, ATTACHMENTS = "deleted", "attachments"
# Only these are shown: of a name like `Lovelace.Ada`, the ending is a part of a person's name.
KNOWN_ENDINGS = frozenset(
    {
        *("7z", "bak", "bz2", "gz", "part", "tar", "tgz", "tmp", "xz", "zip", "zst"),
        *("csv", "db", "docx", "htm", "html", "log", "md", "parquet", "pdf", "sqlite", "tsv", "txt", "xlsx", "xml"),
    }
)
# The names of logs and manifests that clients write, without their ending
CLIENT_NAMES = frozenset({"log", "manifest", "metadata", "export-manifest", "export_manifest"})
# Members that only a log (https://github.com/smart-on-fhir/bulk-data-client/wiki/Bulk-Data-Export-Log-Items) and only
# a manifest of Bulk Data have
CLIENT_MEMBERS = ({"exportId", "eventId"}, {"transactionTime", "output"})

NOT_READ = "not read, because it is no *.ndjson, *.jsonl or *.json (or *.gz of these): {}; export it as NDJSON"
CLIENT_FILE = "{} holds the log or the manifest of an export client, not resources: not read"


@dataclass(frozen=True)
class FolderListing:
    """The content of a folder and of those below it, without hidden files.

    files: those to read, in order. skipped: how many others, by what they are. unlisted: folders that cannot be opened.
    """

    files: tuple[Path, ...]
    skipped: Mapping[str, int]
    unlisted: int

    def notes(self) -> Iterator[str]:
        """Yield a sentence about what is not read."""
        if self.skipped:
            yield NOT_READ.format(", ".join(f"{count} {what}" for what, count in sorted(self.skipped.items())))


def list_folder(folder: Path) -> FolderListing:
    """Return the files of `folder`. Those in it come before those of its folders, what was deleted between them.

    So an export that lies in a folder below is applied after what it adds to, and 10 comes after 9.
    """
    found: list[Path] = []
    skipped: Counter[str] = Counter()
    unlisted: list[OSError] = []
    inside = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=unlisted.append):
        # A link may lead to where the folder itself lies, and then there is no end.
        links = [name for name in folders if Path(place, name).is_symlink() and _is_visible(name)]
        skipped["links to a folder"] += len(links)
        skipped["folders named attachments"] += ATTACHMENTS in folders
        folders[:] = [name for name in folders if _is_visible(name) and name not in (*links, ATTACHMENTS)]
        for file in (Path(place, name) for name in names if _is_visible(name)):
            if not file.name.lower().endswith(PATTERNS):
                skipped[_ending(file)] += 1
            elif not file.is_file():
                skipped["links that lead nowhere"] += 1
            # smart-fetch links from above to the files of each export, which are read where they lie.
            elif not (file.is_symlink() and file.resolve().is_relative_to(inside)):
                found.append(file)
    # By the whole path, so that the order is the same on every system.
    found.sort(key=lambda file: _order(file.relative_to(folder)))
    return FolderListing(tuple(found), +skipped, len(unlisted))


def is_document(file: Path) -> bool:
    """Return True for a file that is one JSON document, False for one with a resource on each line."""
    return file.name.lower().removesuffix(".gz").endswith(DOCUMENT)


def note_of_client_file(file: Path, first: bytes) -> str | None:
    """Return a sentence if the file is what a client writes about its export; None if it is to be read.

    Args:
        file: where it lies; its name is shown only if it is one that clients use.
        first: its first line, or its first JSON value.
    """
    if b'"resourceType"' in first:  # nearly every file: nothing is parsed for it
        return None
    content = json_or_none(first.removeprefix(BOM))
    members = content.keys() if isinstance(content, dict) else set()
    stem, _, ending = file.name.lower().partition(".")
    named = stem in CLIENT_NAMES and f".{ending}" in PATTERNS
    if not (named or any(each <= members for each in CLIENT_MEMBERS)):
        return None
    return CLIENT_FILE.format(file.name if named else "a file")


def _is_visible(name: str) -> bool:
    # Editors, macOS and synchronisation programs leave hidden copies, which would be read as further versions.
    return not name.startswith(".")


def _ending(file: Path) -> str:
    ending = file.suffix[1:].lower()
    return f"*.{ending}" if ending in KNOWN_ENDINGS else "of another ending"


def _order(file: Path) -> list[tuple[int, list[str | int]]]:
    *folders, name = file.parts
    ranks = [(1 if each.lower() == DELETED else 2, _natural(each)) for each in folders]
    return [*ranks, (0, _natural(name))]


def _natural(name: str) -> list[str | int]:
    # Every second part is a number, so that a number is never compared with a text.
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", name))]

"""The resources of the files that `periop view run` gets, as people have them, in one table.

Lines of NDJSON are read by the engine. Everything else is read here: documents (a resource, a Bundle, an array, several
of these), lines that are Bundles or arrays, a byte order mark, JSON over several lines, and what comes through a pipe.
References inside a Bundle become `Type/id`, as in the lake (`connectors.fhir.references`).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import ibis
import orjson

from connectors.fhir.bundle import NotABundleError, json_values, looks_like_bundle, read_bundle
from connectors.fhir.references import BundleReferences
from connectors.fhir.resource import BOM
from connectors.sources.folder import is_over_lines
from connectors.sources.folder_listing import is_document
from mappers.engines.base import RESOURCE
from mappers.errors import MappingError
from mappers.fhir_model.shape import Shape, from_json

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from mappers.engines.base import Engine

STDIN = Path("-")
ONE_PER_LINE = "NDJSON has one whole resource a line"
NO_DOCUMENT = "not JSON of one resource or a Bundle; give many resources as .ndjson, one a line"
GZIP = b"\x1f\x8b"
CHUNK = 1 << 20
# A line that is a Bundle or an array; or a Bundle by its type, wherever that stands in the line
NO_PLAIN_LINE = re.compile(rb'"Bundle"|(?:^|\n)\s*\[')
OPEN_REFERENCE = re.compile(rb'"reference"\s*:\s*"(?:urn:|[A-Z][A-Za-z]+\?)')


@dataclass(frozen=True)
class Input:
    """The resources of the files, and how many references in what was read here lead to nothing in their Bundle."""

    resources: ir.Table
    open_references: int


def read_input(engine: Engine, files: Sequence[Path], stdin: Callable[[], BinaryIO]) -> Input:
    """Read the resources of files; `-` is what `stdin` opens.

    Raises:
        MappingError: a file that is not JSON.
    """
    plain = [file for file in files if file != STDIN and _is_plain(file)]
    texts = [text for file in files if file not in plain for text in _read_here(file, stdin)]
    tables = [engine.read_ndjson(file) for file in plain]
    # Without any file of lines the table must still exist, if only empty.
    if texts or not tables:
        tables.append(engine.resources([text.decode("utf-8") for text in texts]))
    return Input(
        ibis.union(*tables) if len(tables) > 1 else tables[0], sum(len(OPEN_REFERENCE.findall(text)) for text in texts)
    )


def what_was_read(engine: Engine, found: Input, resource: str, rows: int) -> Iterator[str]:
    """Yield sentences about what a user would else not see: no rows, and references that lead nowhere."""
    if found.open_references:
        yield (
            f"{found.open_references} references (urn: or a search) lead to no entry of their Bundle, "
            "so getReferenceKey() gives nothing for them"
        )
    if rows:
        return
    shape = Shape()
    shape.touch_primitive("resourceType", "code", many=False)
    parsed: Any = from_json(found.resources[RESOURCE], shape)
    types = engine.arrow(engine.compile(found.resources.select(type=parsed["resourceType"])))["type"]
    counts = Counter(types.to_pylist())
    yield f"no rows: {_counted(counts.total(), counts[resource], resource)}"


def _counted(number: int, of_type: int, resource: str) -> str:
    if not number:
        return "the files hold no resource"
    if not of_type:
        return f"{number} resources read, none is a {resource}"
    return f"{number} resources read, {of_type} of type {resource}; where or forEach of the view leave none of them"


def _is_plain(file: Path) -> bool:
    """Return whether the engine can read the file: lines that are resources, gzip only if its name says so."""
    if is_document(file) or not file.is_file():  # a pipe cannot be read a second time
        return False
    # By its first bytes: a name may lack the ending, and DuckDB goes by the name.
    with file.open("rb") as stream:
        zipped = stream.read(2) == GZIP
    if zipped != (file.suffix == ".gz"):
        return False
    try:
        with gzip.open(file) if zipped else file.open("rb") as lines:
            first, second = lines.readline(), lines.readline()
            if first.startswith(BOM) or is_over_lines(first.strip(), second.strip()):
                return False
            lines.seek(0)
            return not _has_other_lines(lines)
    except (OSError, EOFError, zlib.error):
        return True  # the engine meets the damage too, and what is wrong is said then


def _has_other_lines(lines: BinaryIO | gzip.GzipFile) -> bool:
    before = b"\n"
    while chunk := lines.read(CHUNK):
        if NO_PLAIN_LINE.search(before + chunk):
            return True
        # What is searched may begin in one piece and end in the next.
        before = chunk[-16:]
    return False


def _read_here(file: Path, stdin: Callable[[], BinaryIO]) -> list[bytes]:
    name = "stdin" if file == STDIN else str(file)
    raw = stdin().read() if file == STDIN else file.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw.startswith(GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise MappingError(f"{name}: not a whole gzip file; export or copy it again") from error
    raw = raw.removeprefix(BOM)
    lines = [line for line in raw.split(b"\n") if line.strip()]
    first, second = (*(line.strip() for line in lines[:2]), b"", b"")[:2]
    document = file != STDIN and is_document(file)
    if not document and not is_over_lines(first, second):
        return [text for number, line in enumerate(raw.split(b"\n"), 1) for text in _line(line.strip(), name, number)]
    try:
        values = [text for value in json_values(raw) for text in _resources(value)]
        valid = all(isinstance(orjson.loads(text), dict) for text in values)
    except (NotABundleError, UnicodeDecodeError, orjson.JSONDecodeError, RecursionError):
        valid = False
    if not valid:
        raise MappingError(f"{name}: {NO_DOCUMENT}")
    return values


def _line(line: bytes, name: str, number: int) -> Iterator[bytes]:
    if not line:
        return
    try:
        orjson.loads(line)
        yield from _resources(line)
    except (orjson.JSONDecodeError, NotABundleError) as error:
        reason = error.msg if isinstance(error, orjson.JSONDecodeError) else "a Bundle that cannot be read"
        raise MappingError(f"{name}: not JSON in line {number} ({reason}); {ONE_PER_LINE}") from error


def _resources(raw: bytes, outer: BundleReferences | None = None) -> Iterator[bytes]:
    """Yield a resource as itself, and the resources of a Bundle or an array, unparsed: decimals keep their digits."""
    raw = raw.strip()
    if raw.startswith(b"["):
        for value in json_values(raw):
            yield from _resources(value, outer)
    elif looks_like_bundle(raw):
        bundle = read_bundle(raw)
        references = BundleReferences(bundle, outer)
        # Entries without a resource are those of deletions and of operations.
        for text in filter(None, references.resources(bundle)):
            yield from _resources(text, references)
    else:
        yield raw

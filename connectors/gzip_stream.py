"""Decompresses gzip in bounded pieces, and notices where a stream is cut or corrupt."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

PIECE = 1 << 18


class DamagedGzipError(ValueError):
    """The gzip stream ends early or is corrupt."""


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of one or more gzip members, at most 256 KiB at a time.

    The end marker of each member is checked (RFC 1952, 2.3.1: CRC32 and ISIZE). The gzip module does that too, but
    keeps back what it had decompressed just before the damage, and httpx takes a stream that is cut for a whole one.

    Raises:
        DamagedGzipError: the stream is cut or corrupt; everything before the damage was yielded.
    """
    inflate, fresh = zlib.decompressobj(31), True
    for piece in pieces:
        rest = piece
        while rest:
            if inflate.eof:
                rest = rest.lstrip(b"\0")  # padding after a member, as the gzip command tolerates it
                inflate, fresh = zlib.decompressobj(31), True
                continue
            try:
                yield inflate.decompress(rest, PIECE)
            except zlib.error as error:
                raise DamagedGzipError from error
            rest, fresh = inflate.unused_data if inflate.eof else inflate.unconsumed_tail, False
    if not (inflate.eof or fresh):
        raise DamagedGzipError

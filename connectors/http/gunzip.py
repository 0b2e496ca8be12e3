"""Decompression of gzip streams in bounded memory, to their very end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from connectors.http.retry import TruncatedError

PIECE = 1 << 18  # bytes
GZIP_FORMAT = 31  # wbits of zlib: 15 for the largest window, and 16 for a header and trailer of gzip


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one or more gzip members in pieces of at most 256 KiB.

    Raises TruncatedError where the stream is cut off or damaged, after everything before that was given out.
    The gzip module of Python would raise too, but withholds what it has decompressed just before.

    >>> import gzip
    >>> b"".join(gunzip([gzip.compress(b"two "), gzip.compress(b"members")]))
    b'two members'
    """
    decompressor, empty = zlib.decompressobj(GZIP_FORMAT), True
    for piece in pieces:
        rest = piece
        while rest:
            empty = False
            if decompressor.eof:
                rest = rest.lstrip(b"\0")  # padding after a member, which gzip(1) tolerates too
                if rest:
                    decompressor = zlib.decompressobj(GZIP_FORMAT)
                continue
            try:
                yield decompressor.decompress(rest, PIECE)
            except zlib.error as error:
                raise TruncatedError from error
            rest = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
    if not (empty or decompressor.eof):
        raise TruncatedError

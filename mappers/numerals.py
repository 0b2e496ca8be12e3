"""Whether a file has JSON numbers of more digits than a double keeps.

DuckDB's `read_ndjson` makes a double of every number. A double gives back up to 15 significant digits exactly
(IEEE 754; DBL_DIG of C), so a file without longer numbers loses nothing when it is read that way. To know it, the file
is looked through once, eight bytes at a time, which takes a fraction of the time of parsing it.

Why no such number is missed: its 16 or more digits, with at most one point among them, stand side by side, so they fill
at least one aligned word of eight bytes wherever they begin. Only round such a word a number is looked for.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 2 << 20  # bytes looked at in one go
OVERLAP = 64  # bytes before a block that are looked at again with it: more than it takes to see a long number
THREADS = 2
WORD = 8  # bytes
ENOUGH = 16 - WORD  # characters beside a word that make it long

LONG = re.compile(rb"[0-9.]{16,}")
BEFORE_A_NUMBER = re.compile(rb"(?:^|[:,\[\s])-?\Z")  # text and names of code systems stand behind something else

Array = Any  # of numpy


def has_long_number(path: Path) -> bool:
    """True if a number in the file has more than 15 digits; sometimes also for text that looks like one.

    Memory: some 6 MiB a thread.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        share = max(-(-size // (THREADS * BLOCK)), 1) * BLOCK
        parts = [(start, min(start + share, size)) for start in range(0, size, share)]
        with ThreadPoolExecutor(THREADS) as pool:
            return any(pool.map(lambda part: _in_part(file.fileno(), *part), parts))


def _in_part(file: int, start: int, end: int) -> bool:
    words = np.zeros((OVERLAP + BLOCK) // WORD + 2, np.uint64)
    memory, spare = words.data.cast("B"), _Spare(len(words))
    for place in range(start, end, BLOCK):
        first = max(place - OVERLAP, 0)
        count = os.preadv(file, [memory[: min(place + BLOCK, end) - first]], first)
        memory[count : count + 2 * WORD] = bytes(2 * WORD)  # what is left of the block before
        places = _suspects(words[: -(-count // WORD) + 1], spare)
        if any(_is_number(memory[:count], int(place)) for place in places):
            return True
    return False


class _Spare:
    """Memory for what is computed of a block; to get it anew for each takes longer than the computing."""

    def __init__(self, words: int) -> None:
        self.upper = np.empty(words, np.uint64)
        self.found = np.empty(words, bool)


def _suspects(words: Array, spare: _Spare) -> Array:
    """Places of words within 16 or more digits and points that do not begin behind a quote."""
    upper, among = spare.upper[: len(words)], spare.found[: len(words)]
    np.bitwise_and(words, _each(0xE0), out=upper)
    np.equal(upper, _each(0x20), out=among)  # digits and points, and other signs for the moment
    found = np.flatnonzero(among)
    found = found[_all_numeric(words[found])]
    return _long(words.view(np.uint8), found * WORD)


def _long(octets: Array, places: Array) -> Array:
    """Of the words that begin at these bytes, those in a row of 16 or more digits and points without a quote."""
    alone = _beside(octets, places - 1, -1, 1) + _beside(octets, places + WORD, 1, 1) == 0
    places = places[~alone]
    left = _beside(octets, places - 1, -1, ENOUGH)
    right = _beside(octets, places + WORD, 1, ENOUGH)
    start = places - left
    quoted = (left < ENOUGH) & (start > 0) & (octets[start - 1] == ord('"'))
    return places[(left + right >= ENOUGH) & ~quoted]


def _beside(octets: Array, places: Array, step: int, most: int) -> Array:
    """How many of the next characters are digits or points, up to `most`."""
    count = np.zeros(len(places), np.int64)
    going = np.ones(len(places), bool)
    for nth in range(most):
        place = places + nth * step
        inside = (place >= 0) & (place < len(octets))
        character = octets[np.where(inside, place, 0)]
        going &= inside & (character - np.uint8(0x2E) < 12)  # a byte below the point wraps round
        count += going
    return count


def _all_numeric(words: Array) -> Array:
    """Bytes 0x2e to 0x39: the point, the slash and the digits. Of bytes below 0x80, no sum overflows into the next."""
    high, from_point, beyond_nine = _each(0x80), words + _each(0x52), words + _each(0x46)
    return (words & high == 0) & (from_point & ~beyond_nine & high == high)


def _each(octet: int) -> np.uint64:
    """A word of this byte eight times."""
    return np.uint64(octet * 0x0101010101010101)


def _is_number(text: memoryview, place: int) -> bool:
    """Whether the digits around a place are those of one number."""
    start = place
    while start and text[start - 1] in b".0123456789":
        start -= 1
    found = LONG.match(text, start)
    points = found[0].count(b".") if found else 0
    if found is None or points > 1 or len(found[0]) - points < ENOUGH + WORD:
        return False
    return BEFORE_A_NUMBER.search(text, max(start - 2, 0), start) is not None

"""Lines into packets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from operator import add


def packets(units: Sequence[bytes], size: int) -> Iterator[tuple[bytes, int]]:
    """Join units by newlines, in order, into packets of at most `size` bytes.

    A unit is never split: one that is longer makes a packet alone. Yields each
    packet, and the index after its last unit.
    """
    # Where each unit would end, with a newline after it, had all been joined: one
    # pass in C and a search for each packet, where a loop in Python would cost more
    # than all the rest of a flush.
    ends = list(accumulate(map(add, map(len, units), repeat(1))))
    start = begin = 0
    while start < len(ends):
        end = max(start + 1, bisect_right(ends, begin + size + 1, lo=start))
        yield b"\n".join(units[start:end]), end
        start, begin = end, ends[end - 1]


def count_lines(packet: bytes) -> int:
    """How many lines a packet has."""
    return packet.count(b"\n") + 1

"""Damage to bytes, drawn from a seed: bits, numbers that are often lies, pieces moved, cut and doubled."""

from __future__ import annotations

import random

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def mutated(seeds: list[bytes], draw: random.Random) -> bytes:
    """Damage one of the seeds in one to eight ways."""
    data = bytearray(draw.choice(seeds))
    for _ in range(min(8, int(draw.expovariate(0.5)) + 1)):
        if not data:
            break
        draw.choice(_WAYS)(data, seeds, draw)
    return bytes(data)


def _bit(data, seeds, draw):
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _byte(data, seeds, draw):
    data[draw.randrange(len(data))] = draw.randrange(256)


def _number(data, seeds, draw):
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice(EDGES) & (256**size - 1)
    at = draw.randrange(len(data))
    data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _nudged(data, seeds, draw):
    at, size = draw.randrange(len(data)), draw.choice((1, 2, 4, 8))
    value = int.from_bytes(data[at : at + size], "little") + draw.choice((-8, -1, 1, 8))
    data[at : at + size] = (value % 256**size).to_bytes(size, "little")


def _cut(data, seeds, draw):
    del data[draw.randrange(len(data)) :]


def _removed(data, seeds, draw):
    at = draw.randrange(len(data))
    del data[at : at + draw.randrange(1, 40)]


def _doubled(data, seeds, draw):
    at = draw.randrange(len(data))
    piece = data[at : at + draw.randrange(1, 40)]
    data[at:at] = piece * draw.choice((1, 1, 2, 20))


def _spliced(data, seeds, draw):
    other = draw.choice(seeds)
    start = draw.randrange(len(other))
    piece = other[start : start + draw.randrange(1, 200)]
    at = draw.randrange(len(data))
    data[at : at + draw.choice((0, len(piece)))] = piece


def _swapped(data, seeds, draw):
    a, b = sorted(draw.randrange(len(data)) for _ in range(2))
    size = draw.randrange(1, 20)
    if a + size <= b and b + size <= len(data):
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


_WAYS = (_bit, _bit, _byte, _byte, _number, _nudged, _cut, _removed, _doubled, _spliced, _swapped)

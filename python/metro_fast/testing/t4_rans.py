"""Reference of a T4-rANS stream, written from docs/expert-format.md, section 5."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KIND_SYMBOLS = (1, 8, 24, 32, 16)
KEYS = sorted(
    (key for key in range(256) if (key >> 4) & ~key & 15 == 0),
    key=lambda key: ((key & 15).bit_count(), key),
)

Frequencies = list[list[int]]


def load_frequencies(path: Path) -> Frequencies:
    """The frozen table, from t4-frequencies.csv."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return [[int(value) for value in row[1:]] for row in rows]


def plan(trits: NDArray[np.int8], frequencies: Frequencies) -> tuple[int, int]:
    """The first density class with the fewest bits, and the expected number of bytes."""
    kinds = [0] * 5
    for symbol in _symbols(trits):
        kinds[(KEYS[symbol] & 15).bit_count()] += 1
    costs = [
        sum(count * ((14 << 16) - _log2(f)) for count, f in zip(kinds, row, strict=True))
        for row in frequencies
    ]
    return costs.index(min(costs)), 256 + -(-(min(costs) >> 16) // 8)


def encode(trits: NDArray[np.int8], frequencies: Frequencies) -> tuple[bytes, int]:
    """The bytes of a stream, padded to a multiple of 16, and its density class."""
    symbols = _symbols(trits)
    index, _ = plan(trits, frequencies)
    table = _table(frequencies[index])
    states = [1 << 16] * 64
    words: list[int] = []
    for place in reversed(range(len(symbols))):
        frequency, first = table[symbols[place]]
        state = states[place % 64]
        if state >= frequency << 18:
            words.append(state & 0xFFFF)
            state >>= 16
        states[place % 64] = (state // frequency << 14) + state % frequency + first
    data = np.array(states, "<u4").tobytes() + np.array(words[::-1], "<u2").tobytes()
    return data + bytes(-len(data) % 16), index


def _symbols(trits: NDArray[np.int8]) -> list[int]:
    """The symbols, padded to whole rows of 64 quads."""
    padded = np.zeros(-(-trits.size // 256) * 256, np.int8)
    padded[: trits.size] = trits
    symbol_of = {key: symbol for symbol, key in enumerate(KEYS)}
    weights = np.array([1, 2, 4, 8])
    quads = padded.reshape(-1, 4)
    keys = (quads != 0) @ weights + 16 * ((quads < 0) @ weights)
    return [symbol_of[int(key)] for key in keys]


def _table(row: list[int]) -> list[tuple[int, int]]:
    """Frequency and first slot of each symbol."""
    table = []
    first = 0
    for frequency, symbols in zip(row, KIND_SYMBOLS, strict=True):
        for _ in range(symbols):
            table.append((frequency, first))
            first += frequency
    return table


def _log2(x: int) -> int:
    """2^16 log2(x), by squaring a 32-bit mantissa."""
    whole = x.bit_length() - 1
    mantissa = x << (31 - whole)
    result = whole
    for _ in range(16):
        mantissa = mantissa * mantissa >> 31
        carry = mantissa >> 32
        mantissa >>= carry
        result = result << 1 | carry
    return result

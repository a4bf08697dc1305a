"""The random numbers of every op, in Python integers.

Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from collections.abc import Iterator
from enum import IntEnum

_MASK = 0xFFFFFFFF
Block = tuple[int, int, int, int]
Key = tuple[int, int]


class Stream(IntEnum):
    """The purpose of a draw. No two purposes share a random word."""

    SPANS = 1
    MASK = 2
    REPLACE = 3
    CROP = 4
    ORDER = 5
    MIXTURE = 6
    KIND = 7


def philox4x32_10(counter: Block, key: Key) -> Block:
    """Ten rounds of Philox4x32 on one counter.

    Example:
        >>> [hex(word) for word in philox4x32_10((0, 0, 0, 0), (0, 0))]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def make_key(seed: int, epoch: int, stream: Stream) -> Key:
    """The key of one (seed, epoch, op)."""
    counter = (epoch & _MASK, epoch >> 32, int(stream), 0)
    first, second, _, _ = philox4x32_10(counter, (seed & _MASK, seed >> 32))
    return first, second


def words(key: Key, sample_id: int, position: int) -> Iterator[int]:
    """The endless sequence of 32-bit words of one (sample id, position)."""
    block = 0
    while True:
        yield from philox4x32_10((block, position, sample_id & _MASK, sample_id >> 32), key)
        block += 1


def below(source: Iterator[int], bound: int) -> int:
    """Uniform on 0 .. bound - 1: multiply, and reject products that would bias (Lemire 2019)."""
    while True:
        product = next(source) * bound
        if product & _MASK >= (1 << 32) % bound:
            return product >> 32


def choose(source: Iterator[int], k: int, n: int) -> list[int]:
    """`k` distinct items of 0 .. n - 1, ascending; every subset is equally likely.

    Items are drawn until there are `k` different ones. If `k` is more than half of `n`, the items
    that are left out are drawn instead.
    """
    wanted = min(k, n - k)
    drawn: set[int] = set()
    while len(drawn) < wanted:
        drawn.add(below(source, n))
    return sorted(drawn) if wanted == k else [item for item in range(n) if item not in drawn]

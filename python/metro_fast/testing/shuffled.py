"""Reference of the order of `data.TokenCorpus(shuffle=True)`."""

from itertools import count as count_up

from metro_fast.testing.philox import Stream, make_key, words


def shuffled(index: int, count: int, *, seed: int, epoch: int) -> int:
    """The block, of `count`, that is read at index `index` of an epoch.

    A Feistel network of eight rounds, over the smallest even number of bits that can hold the
    blocks, is applied until the result is a block (Black and Rogaway, CT-RSA 2002).

    Example:
        >>> sorted(shuffled(i, 5, seed=1, epoch=0) for i in range(5))
        [0, 1, 2, 3, 4]
    """
    half = next(half for half in count_up() if 1 << 2 * half >= count)
    mask = (1 << half) - 1
    key = make_key(seed, epoch, Stream.ORDER)
    number = index
    while True:
        left, right = number >> half, number & mask
        for turn in range(8):
            left, right = right, left ^ (next(words(key, right, turn)) & mask)
        number = left << half | right
        if number < count:
            return number

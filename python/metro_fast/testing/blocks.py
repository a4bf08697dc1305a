"""Reference of the blocks of `data.TokenCorpus`, of the windows of long ones, and of segments."""

from typing import NamedTuple

from metro_fast.testing.philox import Stream, below, make_key, words


class Item(NamedTuple):
    """An entry of an index.

    Attributes:
        length: Number of tokens.
        closes: Whether a document ends with it.
        separator: Whether it only marks the end of a document.
    """

    length: int
    closes: bool = True
    separator: bool = False


def cut_blocks(items: list[Item], mode: str, block_size: int) -> list[tuple[int, int]]:
    """Start and end of every block.

    "complete", "complete_doc" and "eos" are fairseq's `token_block_dataset`, without its empty
    blocks.

    Example:
        >>> cut_blocks([Item(3), Item(2), Item(9)], "complete", 5)
        [(0, 5), (5, 14)]
        >>> cut_blocks([Item(3), Item(2), Item(9)], "pack", 6)
        [(0, 5), (5, 11), (11, 14)]
    """
    total = sum(item.length for item in items)
    if mode == "none":
        return [(start, min(start + block_size, total)) for start in range(0, total, block_size)]
    blocks = []
    start = length = 0
    for item in items:
        if mode == "complete_doc" and item.separator:
            blocks.append((start, start + length))
            start, length = start + length + item.length, 0
            continue
        if length and length + item.length > block_size:
            blocks.append((start, start + length))
            start, length = start + length, 0
        length += item.length
        while mode == "pack" and length > block_size:
            blocks.append((start, start + block_size))
            start, length = start + block_size, length - block_size
        if mode == "eos" or (mode == "complete_doc" and item.closes):
            blocks.append((start, start + length))
            start, length = start + length, 0
    blocks.append((start, start + length))
    least = 2 if mode == "complete_doc" else 1
    return [(start, end) for start, end in blocks if end - start >= least]


def crop(
    block: tuple[int, int], block_size: int, *, seed: int, epoch: int, sample_id: int
) -> tuple[int, int]:
    """The window of a block longer than `block_size` that is read.

    Example:
        >>> crop((10, 14), 4, seed=0, epoch=0, sample_id=0)
        (10, 14)
    """
    start, end = block
    if end - start <= block_size:
        return block
    source = words(make_key(seed, epoch, Stream.CROP), sample_id, 0)
    start += below(source, end - start - block_size + 1)
    return start, start + block_size


def number_segments(items: list[Item], start: int, end: int) -> list[int]:
    """The number of the document of every token in a range, counted from 1.

    Example:
        >>> number_segments([Item(2), Item(1, closes=False), Item(3)], 1, 6)
        [1, 2, 2, 2, 2]
    """
    documents = []
    document = 0
    for item in items:
        documents += [document] * item.length
        document += item.closes
    names = sorted(set(documents[start:end]))
    return [names.index(document) + 1 for document in documents[start:end]]

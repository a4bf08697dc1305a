"""The targets of many contexts as a trie, in the stages in which a decoder reads it.

A decoder with a cache reads a trie in stages: every stage reads the tokens between two depths of
all branches at once, and branches that are still the same are read once. A stage costs a call and
copies the caches of its branches, so a shared prefix that is too short is read several times.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Read", "Stage", "Tree", "read_order", "tree_of"]

# Measured in tokens: what a call costs besides its tokens, and the cached tokens whose copy takes
# as long as reading one token.
_CALL = 16
_COPIED = 128


@dataclass(frozen=True)
class Read:
    """Where the logits predict token `depth` of a target, `label`: at a position of a row."""

    row: int
    position: int
    label: int
    target: int
    depth: int


@dataclass(frozen=True)
class Stage:
    """One call of the decoder.

    Attributes:
        start: How many tokens of the targets the parents' caches hold.
        contexts: For each row, its context.
        parents: For each row, its row of the stage before; for the first stage, its context.
        tokens: For each row, the tokens that it reads, at least one.
        reads: The tokens of targets whose probabilities its logits give.
    """

    start: int
    contexts: list[int]
    parents: list[int]
    tokens: list[tuple[int, ...]]
    reads: list[Read]


@dataclass(frozen=True)
class Tree:
    """All branches of the targets of each context, as one row of tokens.

    Attributes:
        contexts: For each row, its context.
        tokens: For each row, the tokens of its branches, each shared prefix once.
        paths: For each token, the positions in its row of the tokens on its way, itself included.
        reads: The tokens of targets whose probabilities the logits give.
    """

    contexts: list[int]
    tokens: list[list[int]]
    paths: list[list[tuple[int, ...]]]
    reads: list[Read]


def tree_of(targets: Sequence[tuple[int, Sequence[int]]]) -> Tree:
    """Put the branches of targets side by side, for one call with a mask of who sees whom.

    Args:
        targets: The context of each target, and its ids.

    Returns:
        The tree; a context whose targets have one token each has no row.

    Example:
        >>> tree = tree_of([(0, [1, 2, 9]), (0, [1, 3, 9])])
        >>> tree.tokens, tree.paths
        ([[1, 2, 3]], [[(0,), (0, 1), (0, 2)]])
    """
    tree = Tree([], [], [], [])
    places: dict[tuple[int, tuple[int, ...]], int] = {}  # branches, by their context
    row_of: dict[int, int] = {}
    for target, (context, ids) in enumerate(targets):
        path: tuple[int, ...] = ()
        # The last token of a target is predicted and never read.
        for depth in range(1, len(ids)):
            if context not in row_of:
                row_of[context] = len(tree.contexts)
                tree.contexts.append(context)
                tree.tokens.append([])
                tree.paths.append([])
            row = row_of[context]
            branch = (context, tuple(ids[:depth]))
            place = places.get(branch)
            if place is None:
                place = places[branch] = len(tree.tokens[row])
                tree.tokens[row].append(ids[depth - 1])
                tree.paths[row].append((*path, place))
            path = tree.paths[row][place]
            tree.reads.append(Read(row, place, ids[depth], target, depth))
    return tree


def read_order(
    targets: Sequence[tuple[int, Sequence[int]]], cached: int, *, bounds: list[int] | None = None
) -> list[Stage]:
    """Plan the stages for targets, whose first tokens the logits of their contexts give.

    Args:
        targets: The context of each target, and its ids.
        cached: Number of cached tokens of a context, whose copies cost time.
        bounds: The depths at which stages end; by default those with the least cost.

    Returns:
        The stages in order; none if every target has one token.

    Example:
        >>> [
        ...     stage.tokens
        ...     for stage in read_order([(0, [1, 2, 9]), (0, [1, 3, 9])], 10, bounds=[1, 2])
        ... ]
        [[(1,)], [(2,), (3,)]]
    """
    # The last token of a target is predicted and never read.
    paths = [(context, tuple(ids[:-1])) for context, ids in targets]
    stages = []
    row_of: list[int] = [context for context, _ in paths]
    start = 0
    for end in _best_bounds(paths, cached) if bounds is None else bounds:
        keys = _rows(paths, start, end)
        rows = {key: row for row, key in enumerate(keys)}
        parents = [0] * len(keys)
        reads, new_row_of = [], list(row_of)
        for target, (context, path) in enumerate(paths):
            if len(path) <= start:
                continue
            row = rows.get((context, path[:end]))
            if row is None:  # a longer branch begins with this one, and is the next in order
                row = bisect_left(keys, (context, path))
            parents[row], new_row_of[target] = row_of[target], row
            reads += [
                Read(row, depth - start, targets[target][1][depth + 1], target, depth + 1)
                for depth in range(start, min(end, len(path)))
            ]
        contexts = [context for context, _ in keys]
        stages.append(Stage(start, contexts, parents, [path[start:] for _, path in keys], reads))
        row_of, start = new_row_of, end
    return stages


def _rows(
    paths: Sequence[tuple[int, tuple[int, ...]]], start: int, end: int
) -> list[tuple[int, tuple[int, ...]]]:
    """The distinct branches that are longer than `start`, cut at `end`, none within another."""
    found = sorted({(context, path[:end]) for context, path in paths if len(path) > start})
    # In this order, a branch comes right before those that begin with it.
    return [
        key
        for key, following in pairwise([*found, (-1, ())])
        if key[0] != following[0] or following[1][: len(key[1])] != key[1]
    ]


def _best_bounds(paths: Sequence[tuple[int, tuple[int, ...]]], cached: int) -> list[int]:
    """The depths at which stages end, with the least cost by dynamic programming."""
    depth = max((len(path) for _, path in paths), default=0)
    # Only where branches part can a bound save anything.
    counts = [len(_rows(paths, 0, end)) for end in range(1, depth + 1)]
    ends = [end for end in range(1, depth) if counts[end] > counts[end - 1]]
    ends = [*ends, depth] if depth else []
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for end in ends:
        options = []
        for start, (cost, bounds) in best.items():
            rows = len(_rows(paths, start, end))
            copies = rows * (cached + start) / _COPIED
            options.append((cost + _CALL + rows * (end - start) + copies, [*bounds, end]))
        best[end] = min(options)
    return best[depth][1]

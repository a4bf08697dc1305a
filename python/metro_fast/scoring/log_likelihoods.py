"""The log-likelihoods of many targets: each context is read once, each shared prefix too."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from metro_fast.scoring import batches
from metro_fast.scoring.batches import buckets, cached_tokens, forked, pad
from metro_fast.scoring.decoders import Decoder, Started
from metro_fast.scoring.trie import Read, read_order, tree_of

__all__ = ["log_likelihoods"]

Target = tuple[int, Sequence[int]]


def log_likelihoods(
    decoder: Decoder,
    contexts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[Sequence[int]]],
    *,
    vocabulary: int,
    max_batch_tokens: int,
    bar: Any,
) -> list[list[float]]:
    """Compute Σ_t log p(y_t | y_<t, context) of every target, with log-softmax in fp32.

    Args:
        decoder: The model.
        contexts: Ids of each context.
        targets: Ids of each target of each context.
        vocabulary: Number of ids that the model knows.
        max_batch_tokens: Most padded tokens of one call.
        bar: A progress bar, which counts contexts.

    Returns:
        Sums in nats, `[contexts][targets]`.
    """
    most_logits = max(1, batches.MAX_LOGITS // vocabulary)
    most_cached = min(max_batch_tokens, cached_tokens(decoder.model))
    sums = [[0.0] * len(row) for row in targets]
    # Longest first, so that the first call already shows whether the memory suffices.
    order = sorted(range(len(contexts)), key=lambda i: (-len(contexts[i]), tuple(contexts[i])))
    lengths = [len(context) for context in contexts]
    for run in buckets(order, lengths, most_cached):
        for start in range(0, len(run), most_logits):
            rows = run[start : start + most_logits]
            several = any(len(ids) > 1 for i in rows for ids in targets[i])
            started = decoder.start([contexts[i] for i in rows], cache=several)
            width = started.mask.shape[1]
            pairs = [(row, k) for row, i in enumerate(rows) for k in range(len(targets[i]))]
            for group in _groups(
                pairs, [targets[i] for i in rows], width, most_cached, most_logits
            ):
                values = _sums(decoder, started, [(r, targets[rows[r]][k]) for r, k in group])
                for (row, k), value in zip(group, values, strict=True):
                    sums[rows[row]][k] = value
            bar.update(len(rows))
    return sums


def _groups(
    pairs: list[tuple[int, int]],
    targets: Sequence[Sequence[Sequence[int]]],
    width: int,
    most_cached: int,
    most_logits: int,
) -> Iterator[list[tuple[int, int]]]:
    """Cut pairs of context and target into runs whose caches and logits stay within bounds.

    A run ends between two contexts where it can, since targets of one context that fall into two
    runs share no prefix.
    """
    group: list[tuple[int, int]] = []
    for pair in pairs:
        lengths = [len(targets[row][k]) for row, k in (*group, pair)]
        tallest, count = max(lengths), len(lengths)
        if group and (
            count * (width + tallest) > most_cached or count * (tallest - 1) > most_logits
        ):
            whole = [p for p in group if p[0] != pair[0]]
            yield whole or group
            group = group[len(whole) :] if whole else []
        group.append(pair)
    if group:
        yield group


def _sums(decoder: Decoder, started: Started, targets: list[Target]) -> list[float]:
    """The sums of targets, each with its row of `started`."""
    device = started.logits.device
    # A table that is summed at the end: additions in place have no fixed order on a GPU.
    table = torch.zeros(len(targets), max(len(ids) for _, ids in targets), device=device)
    rows = torch.tensor([row for row, _ in targets], device=device)
    first = torch.tensor([ids[0] for _, ids in targets], device=device)
    scale = started.logits.float().logsumexp(-1)
    table[:, 0] = started.logits[rows, first].float() - scale[rows]

    cache = started.cache
    if cache is not None and decoder.reads_trees:
        tree = tree_of(targets)
        if tree.reads:
            _fill(table, decoder.read_tree(started, cache, tree), tree.reads)
    elif cache is not None:
        for stage in read_order(targets, started.mask.shape[1]):
            parents = torch.tensor(stage.parents, device=device)
            contexts = torch.tensor(stage.contexts, device=device)
            ids, _ = pad(stage.tokens, device)
            logits, cache = decoder.read(
                started, forked(cache, parents), contexts, ids, stage.start
            )
            _fill(table, logits, stage.reads)
    values: list[float] = table.sum(1).tolist()
    return values


def _fill(table: torch.Tensor, logits: torch.Tensor, reads: Sequence[Read]) -> None:
    """Put the log-probabilities that logits [R, T, V] give into the table."""
    row, position, label, target, depth = torch.tensor(
        [(read.row, read.position, read.label, read.target, read.depth) for read in reads],
        device=logits.device,
    ).unbind(1)
    scale = logits.float().logsumexp(-1)
    table[target, depth] = logits[row, position, label].float() - scale[row, position]

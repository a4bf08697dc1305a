"""Log-likelihoods of continuations, and whether the model would write them itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from metro_fast.scoring import batches
from metro_fast.scoring.batches import buckets, cached_tokens, pad
from metro_fast.scoring.choice_tokens import encode_choices
from metro_fast.scoring.decoders import Decoder, Started
from metro_fast.scoring.engine import Engine
from metro_fast.scoring.log_likelihoods import log_likelihoods
from metro_fast.scoring.model_checks import vocabulary
from metro_fast.scoring.protocol import PROTOCOLS
from metro_fast.scoring.trie import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["Continuation", "ContinuationEngine"]

# The continuation brings its own space, and is never cut.
_PROTOCOL = replace(PROTOCOLS["lm_eval"], separator="", max_target_tokens=1_000_000)

Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]


class Continuation(NamedTuple):
    """How a model continues a context.

    Attributes:
        log_likelihood: The log-likelihood of the continuation, in nats.
        greedy: Whether each of its tokens is the most likely one.
    """

    log_likelihood: float
    greedy: bool


class ContinuationEngine(Engine):
    """The engine for requests of lm-eval, each of which is one context and one continuation.

    Contexts that are equal are read once, however many continuations they have and wherever these
    are in the list.
    """

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
        """Score continuations as lm-eval's `hf` model does.

        Args:
            pairs: The contexts, which may be empty, and the continuations with the space before
                them. White space at the end of a context counts to the continuation.

        Returns:
            One value per pair, in order.

        Raises:
            MetroFastError: If a continuation has no tokens or is longer than the model reads, or
                the model cannot be scored (see `Engine.answer`).
        """
        if not pairs:
            return []
        ids = self._pair_ids(pairs)
        union: dict[Ids, dict[Ids, None]] = {}
        for context, target in ids:
            union.setdefault(context, {})[target] = None
        watching = _Watching(self._decoder)
        with self._running(len(union)) as bar:
            rows = log_likelihoods(
                watching,
                list(union),
                [list(targets) for targets in union.values()],
                vocabulary=vocabulary(self._model),
                max_batch_tokens=self._max_batch_tokens,
                bar=bar,
            )
            found = {
                (context, target): value
                for (context, targets), row in zip(union.items(), rows, strict=True)
                for target, value in zip(targets, row, strict=True)
            }
            begun = [pair for pair in found if watching.first[pair[0]] == pair[1][0]]
            greedy = {pair for pair in begun if len(pair[1]) == 1}
            greedy |= self._greedy([pair for pair in begun if len(pair[1]) > 1])
        return [Continuation(found[pair], pair in greedy) for pair in ids]

    def _pair_ids(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        """The ids of contexts and continuations; an empty context is the start (or end) token."""
        result: list[Pair | None] = [None] * len(pairs)
        filled = [place for place, (context, _) in enumerate(pairs) if context]
        if filled:
            encoded = self._encode(
                [pairs[place][0] for place in filled],
                [[pairs[place][1]] for place in filled],
                _PROTOCOL,
            )
            for place, e in zip(filled, encoded, strict=True):
                result[place] = (tuple(e.context), tuple(e.targets[0]))
        for place, (context, text) in enumerate(pairs):
            if context:
                continue
            nothing = self._nothing()
            target = encode_choices(self._tokenizer, [[text]], end=False)[0][0]
            if target[0] == nothing[0] and len(target) > 1:
                target = target[1:]
            result[place] = (tuple(nothing), tuple(target))
        return [pair for pair in result if pair is not None]

    def _greedy(self, pairs: list[Pair]) -> set[Pair]:
        """Those of the pairs whose every token is the most likely one; they have two or more."""
        found: set[Pair] = set()
        if not pairs:
            return found
        longest = max(len(target) for _, target in pairs)
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
        most = min(self._max_batch_tokens, cached_tokens(self._model))
        rows_at_once = max(1, batches.MAX_LOGITS // (vocabulary(self._model) * longest))
        lengths = [len(context) for context, _ in pairs]
        for run in buckets(order, lengths, most, per_row=longest):
            for start in range(0, len(run), rows_at_once):
                group = [pairs[i] for i in run[start : start + rows_at_once]]
                found |= self._greedy_of_batch(group)
        return found

    def _greedy_of_batch(self, group: list[Pair]) -> set[Pair]:
        started = self._decoder.start([context for context, _ in group], cache=True)
        assert started.cache is not None
        ids, _ = pad([target[:-1] for _, target in group], started.logits.device)
        rows = torch.arange(len(group), device=ids.device)
        logits, _ = self._decoder.read(started, started.cache, rows, ids, 0)
        chosen = logits.argmax(-1).tolist()
        return {
            pair
            for pair, row in zip(group, chosen, strict=True)
            if tuple(row[: len(pair[1]) - 1]) == pair[1][1:]
        }


class _Watching:
    """A decoder that keeps the most likely first token after each context."""

    def __init__(self, decoder: Decoder) -> None:
        self.first: dict[Ids, int] = {}
        self._decoder = decoder
        self.model: PreTrainedModel = decoder.model
        self.causal = decoder.causal
        self.reads_trees = decoder.reads_trees

    def start(self, contexts: Sequence[Sequence[int]], *, cache: bool) -> Started:
        started = self._decoder.start(contexts, cache=cache)
        best = started.logits.argmax(-1).tolist()
        self.first.update(zip(map(tuple, contexts), best, strict=True))
        return started

    def read(
        self,
        started: Started,
        cache: "Cache",
        contexts: torch.Tensor,
        ids: torch.Tensor,
        depth: int,
    ) -> "tuple[torch.Tensor, Cache]":
        return self._decoder.read(started, cache, contexts, ids, depth)

    def read_tree(self, started: Started, cache: "Cache", tree: Tree) -> torch.Tensor:
        return self._decoder.read_tree(started, cache, tree)

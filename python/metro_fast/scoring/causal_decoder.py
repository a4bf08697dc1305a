"""A decoder alone: contexts whose shared beginning is read once, and answers that continue them."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.batches import forked, pad
from metro_fast.scoring.decoder import Started, cache_name, cache_of, parameters_of
from metro_fast.scoring.trie import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["CausalDecoder"]

# A beginning that contexts share is read once if that saves so many tokens: the call of its own
# costs as much as 16 to 60 tokens.
_SAVED = 64
# Models that take a mask [B, 1, T, L] of who sees whom, as the tests show for each.
_TREES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3")


class CausalDecoder:
    """A decoder alone: the answer continues the context."""

    causal = True

    def __init__(self, model: "PreTrainedModel", padding_side: str) -> None:
        if padding_side not in ("left", "right"):
            raise MetroFastError(f"padding_side is {quoted(padding_side)}; give left or right")
        if padding_side == "right" and getattr(model.config, "sliding_window", None):
            raise MetroFastError(
                "padding on the right comes between context and answer, where it uses up the "
                "model's sliding window; pad on the left"
            )
        self.model = model
        self._side = padding_side
        self._takes = parameters_of(model)
        self._cache = cache_name(self._takes)
        # Padding comes between a shared beginning and the rest, where a window would count it; and
        # only attention keeps what several rows can begin with.
        config = model.config.get_text_config(decoder=True)
        kinds = getattr(config, "layer_types", None) or ()
        self._shares = (
            "position_ids" in self._takes
            and not getattr(config, "sliding_window", None)
            and all(kind == "full_attention" for kind in kinds)
        )
        self.reads_trees = (
            self._shares
            and config.model_type in _TREES
            and config._attn_implementation in ("eager", "sdpa")
        )

    def start(self, contexts: Sequence[Sequence[int]], *, cache: bool) -> Started:
        """Read contexts; of the logits only those after the last token are computed.

        The beginning that all contexts share, a chat template's or a wording's, is read once.
        """
        past, shared = self._beginning(contexts)
        ids, mask = pad([row[shared:] for row in contexts], self.model.device, self._side)
        width = ids.shape[1]
        last = mask.sum(1) - 1 if self._side == "right" else torch.full_like(mask[:, 0], width - 1)
        # Padding has a position too, which no token sees.
        options = self._positions((mask.cumsum(1) - 1).clamp(min=0) + shared)
        column = last
        if "logits_to_keep" in self._takes:
            keep, column = torch.unique(last, return_inverse=True)
            options["logits_to_keep"] = keep
        if past is not None:
            options[self._cache] = past
            mask = torch.cat([mask.new_ones(len(ids), shared), mask], dim=1)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=cache or past is not None,
            return_dict=True,
            **options,
        )
        logits = output.logits[torch.arange(len(ids), device=ids.device), column]
        return Started(logits, cache_of(output) if cache else None, mask)

    def _beginning(self, contexts: Sequence[Sequence[int]]) -> "tuple[Cache | None, int]":
        """A cache of the tokens with which all contexts begin, one row each, and their number.

        Every context keeps one token at least to itself, whose logits are asked for.
        """
        first, last = min(contexts, key=tuple), max(contexts, key=tuple)  # what these share, all do
        pairs = zip(first, last, strict=False)
        alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        shared = min(alike, min(map(len, contexts)) - 1)
        if not self._shares or shared * (len(contexts) - 1) < _SAVED:
            return None, 0
        ids, mask = pad([contexts[0][:shared]], self.model.device)
        options: dict[str, Any] = self._positions(mask.cumsum(1) - 1)
        if "logits_to_keep" in self._takes:
            options["logits_to_keep"] = 1
        output = self.model(
            input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **options
        )
        past = cache_of(output)
        if any(getattr(layer, "keys", None) is None for layer in past.layers):
            return None, 0
        return forked(past, ids.new_zeros(len(contexts))), shared

    def read(
        self,
        started: Started,
        cache: "Cache",
        contexts: torch.Tensor,
        ids: torch.Tensor,
        depth: int,
    ) -> "tuple[torch.Tensor, Cache]":
        """Read tokens of answers at the positions after their contexts."""
        mask = started.mask.index_select(0, contexts)
        own = mask.new_ones(len(ids), depth + ids.shape[1])
        places = torch.arange(ids.shape[1], device=ids.device) + depth
        output = self.model(
            input_ids=ids,
            attention_mask=torch.cat([mask, own], dim=1),
            use_cache=True,
            return_dict=True,
            **{self._cache: cache},
            **self._positions(mask.sum(1, keepdim=True) + places),
        )
        return output.logits, cache_of(output)

    def read_tree(self, started: Started, cache: "Cache", tree: Tree) -> torch.Tensor:
        """Read branches side by side: every token sees its context, and the tokens on its way."""
        device = started.logits.device
        contexts = torch.tensor(tree.contexts, device=device)
        ids, _ = pad(tree.tokens, device)
        depths, _ = pad([[len(path) - 1 for path in paths] for paths in tree.paths], device)
        sees = torch.zeros(*ids.shape, ids.shape[1], dtype=torch.bool, device=device)
        sees[tuple(torch.tensor(
            [(row, path[-1], place) for row, paths in enumerate(tree.paths)
             for path in paths for place in path], device=device,
        ).unbind(1))] = True  # fmt: skip
        mask = started.mask.index_select(0, contexts)
        before = mask.bool()[:, None].expand(-1, ids.shape[1], -1)
        dtype = self.model.get_input_embeddings().weight.dtype
        hidden = torch.zeros(1, dtype=dtype, device=device).masked_fill(
            ~torch.cat([before, sees], dim=2)[:, None], torch.finfo(dtype).min
        )
        logits: torch.Tensor = self.model(
            input_ids=ids,
            attention_mask=hidden,
            use_cache=True,
            return_dict=True,
            position_ids=mask.sum(1, keepdim=True) + depths,
            **{self._cache: forked(cache, contexts)},
        ).logits
        return logits

    def _positions(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"position_ids": ids} if "position_ids" in self._takes else {}

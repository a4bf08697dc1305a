"""The one face of all models: read a context once, then branches of answers."""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from metro_fast.scoring.trie import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["Decoder", "Started", "cache_name", "cache_of", "parameters_of"]


def parameters_of(model: "PreTrainedModel") -> Collection[str]:
    """The names that the model's forward pass takes, not those of an adapter's wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(inner.forward).parameters.keys()


def cache_name(parameters: Collection[str]) -> str:
    """The parameter of a cache: transformers 5.24 renamed it, and will drop the old name."""
    return "cache" if "cache" in parameters else "past_key_values"


def cache_of(output: Any) -> "Cache":
    """The cache in a model's output, under its new name or the old one."""
    cache: Cache = output["cache" if "cache" in output else "past_key_values"]
    return cache


@dataclass(frozen=True)
class Started:
    """A batch of contexts that a model has read.

    Attributes:
        logits: `[B, V]`; they predict the first token of an answer.
        cache: The decoder's cache; None if it was not asked for.
        mask: `[B, L]`, int64; 0 at the padding of contexts.
        states: `[B, L, D]`, the encoder's; None for a causal model.
    """

    logits: torch.Tensor
    cache: "Cache | None"
    mask: torch.Tensor
    states: torch.Tensor | None = None


class Decoder(Protocol):
    """A model, as the engine sees it."""

    model: "PreTrainedModel"
    causal: bool
    reads_trees: bool

    def start(self, contexts: Sequence[Sequence[int]], *, cache: bool) -> Started:
        """Read contexts, each once."""

    def read(
        self,
        started: Started,
        cache: "Cache",
        contexts: torch.Tensor,
        ids: torch.Tensor,
        depth: int,
    ) -> "tuple[torch.Tensor, Cache]":
        """Read tokens of answers; `cache` holds their contexts and their first `depth` tokens.

        Args:
            started: The contexts.
            cache: A cache of R rows, which is extended.
            contexts: `[R]`, int64, rows of `started`.
            ids: `[R, T]`, int64, padded on the right.
            depth: How many tokens of the answers the cache holds.

        Returns:
            The logits `[R, T, V]`, and the cache.
        """

    def read_tree(self, started: Started, cache: "Cache", tree: Tree) -> torch.Tensor:
        """Read all branches of some contexts in one call; only if `reads_trees`.

        Args:
            started: The contexts.
            cache: Theirs, which stays as it is.
            tree: The branches.

        Returns:
            The logits `[R, T, V]`.
        """

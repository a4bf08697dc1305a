"""Checks of a model before and after it is scored."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["check_ids", "check_sums", "evaluation_mode", "positions_of", "vocabulary"]

_NO_LIMIT = 10**9  # transformers writes 1e30 where a tokenizer has no length
_LMEVAL_LENGTH = 2048


def vocabulary(model: "PreTrainedModel") -> int:
    """The size of the token embedding, even where an adapter wraps it (LoRA, trained tokens)."""
    embedding = model.get_input_embeddings()
    while not isinstance(embedding, torch.nn.Embedding):
        embedding = getattr(embedding, "base_layer", None) or embedding.original_module
    return embedding.num_embeddings


def positions_of(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """Most tokens that a model reads at once, by lm-eval's rule (`HFLM.max_length`)."""
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        found = getattr(model.config, name, None)
        if found is not None:
            return int(found)
    length = tokenizer.model_max_length
    return int(length) if length and length < _NO_LIMIT else _LMEVAL_LENGTH


def check_ids(model: "PreTrainedModel", rows: Iterable[Sequence[int]]) -> None:
    """Refuse ids that the model has no embedding for."""
    largest, size = max(max(row) for row in rows if row), vocabulary(model)
    if largest >= size:
        raise MetroFastError(
            f"the tokenizer gives id {largest}, the model has {size} embeddings; "
            "use the model's own tokenizer"
        )


def check_sums(sums: Sequence[Sequence[float]]) -> None:
    """Refuse NaN, which no ranking survives."""
    for index, row in enumerate(sums):
        for k, value in enumerate(row):
            if math.isnan(value):
                raise MetroFastError(
                    f"the score of input {index}, choice {k} is NaN; "
                    "check the model's weights, which may be damaged"
                )


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off, and restore every module's own training flag afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

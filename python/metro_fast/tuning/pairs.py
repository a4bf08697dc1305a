"""Token rows and padded batches of (input, target) texts."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

logger = logging.getLogger(__name__)
IGNORED = -100


class PairRows(Dataset[dict[str, Any]]):
    """Tokenized pairs; each side ends with the end-of-sequence token.

    Args:
        tokenizer: A transformers tokenizer with an end-of-sequence token.
        pairs: (input, target) texts.
        max_input_length: Longer inputs are cut, and their number is logged.
        max_target_length: Longer targets are cut in the same way.
        vocab_size: Rows of the model's embedding.

    Raises:
        MetroFastError: If there is no pair, a side is not text, a target is empty, a length is
            below 2, or the tokenizer gives ids the model does not have.
    """

    def __init__(
        self,
        tokenizer: Any,
        pairs: Sequence[tuple[str, str]],
        *,
        max_input_length: int,
        max_target_length: int,
        vocab_size: int,
    ) -> None:
        if not len(pairs):
            raise MetroFastError("no (input, target) pair was given, expected at least one")
        for number, pair in enumerate(pairs):
            if not (len(pair) == 2 and all(isinstance(side, str) for side in pair)):
                raise MetroFastError(
                    f"pair {number} is {quoted(pair)}, expected (input, target) texts"
                )
            if not pair[1].strip():
                raise MetroFastError(f"pair {number} has an empty target: give it a text to learn")
        if tokenizer.eos_token_id is None:
            raise MetroFastError(
                "the tokenizer has no end-of-sequence token: set tokenizer.eos_token"
            )
        for name, limit in (("input", max_input_length), ("target", max_target_length)):
            if limit < 2:
                raise MetroFastError(f"max_{name}_length is {limit}, expected at least 2")
        self.inputs = _encode(tokenizer, [pair[0] for pair in pairs], max_input_length, "inputs")
        self.targets = _encode(tokenizer, [pair[1] for pair in pairs], max_target_length, "targets")
        high = max(max(row) for rows in (self.inputs, self.targets) for row in rows)
        if high >= vocab_size:
            raise MetroFastError(
                f"the tokenizer gives id {high}, but the model has {vocab_size} embeddings: use "
                "the model's own tokenizer"
            )
        self.lengths = [len(row) for row in self.inputs]

    def __repr__(self) -> str:
        noun = "pair" if len(self) == 1 else "pairs"
        return f"PairRows({len(self)} {noun}, inputs of {max(self.lengths)} tokens or fewer)"

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input": self.inputs[index], "target": self.targets[index]}


def _encode(tokenizer: Any, texts: list[str], limit: int, side: str) -> list[list[int]]:
    eos = tokenizer.eos_token_id
    rows, cut = [], 0
    for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]:
        body = ids[:-1] if ids and ids[-1] == eos else list(ids)
        cut += len(body) >= limit
        rows.append([*body[: limit - 1], eos])
    if cut:
        logger.warning("%d of %d %s were cut to %d tokens", cut, len(rows), side, limit)
    return rows


class PairCollator:
    """Pads pairs on the right.

    Args:
        pad_token_id: Id at the end of shorter inputs.

    Example:
        >>> rows = [{"input": [5, 1], "target": [7, 1]}, {"input": [1], "target": [1]}]
        >>> PairCollator(0)(rows)["labels"].tolist()
        [[7, 1], [1, -100]]
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            rows: Rows of `PairRows`.

        Returns:
            int64 input_ids and attention_mask [B, L], labels [B, T] padded with -100, and
            num_labels, a scalar.
        """
        input_ids = _pad([row["input"] for row in rows], self.pad_token_id)
        mask = _pad([[1] * len(row["input"]) for row in rows], 0)
        labels = _pad([row["target"] for row in rows], IGNORED)
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": labels,
            "num_labels": (labels != IGNORED).sum(),
        }


def _pad(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.int64)

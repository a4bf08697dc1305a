"""The loss of a model on (input, target) texts, which a search over experts minimizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metro_fast._json import json_lines, parse_json
from metro_fast.data.vocabulary import vocabulary_size
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.tuning.continued import ContinuedPairs
from metro_fast.tuning.pairs import PairCollator, PairRows


class PairLoss:
    """The mean cross-entropy of target tokens, in nats, over (input, target) texts.

    A call with a model computes it without gradients and without dropout; lower is better. A causal
    model reads the input and continues it with the target, after one space, as `score_choices`
    scores it; the end-of-sequence token belongs to the target of either kind of model.

    Args:
        tokenizer: A transformers tokenizer with an end-of-sequence token.
        pairs: (input, target) texts.
        batch_size: Most pairs per forward pass.
        max_input_length: Longer inputs are cut.
        max_target_length: Longer targets are cut.

    Raises:
        MetroFastError: If there are no pairs, a target is empty, or a number is out of range.

    Example:
        >>> loss = PairLoss(tokenizer, [("is it red ?", "yes")])  # doctest: +SKIP
        >>> compose_fewshot(model, experts, loss)  # doctest: +SKIP
    """

    def __init__(
        self,
        tokenizer: Any,
        pairs: Sequence[tuple[str, str]],
        *,
        batch_size: int = 32,
        max_input_length: int = 512,
        max_target_length: int = 64,
    ) -> None:
        if batch_size < 1:
            raise MetroFastError(f"batch_size is {batch_size}, expected at least 1")
        rows = PairRows(
            tokenizer,
            pairs,
            max_input_length=max_input_length,
            max_target_length=max_target_length,
            vocab_size=vocabulary_size(tokenizer),
        )
        self._vocabulary = vocabulary_size(tokenizer)
        # The mask hides padding, so that any id will do where there is no padding token.
        pad = tokenizer.pad_token_id
        collate = PairCollator(tokenizer.eos_token_id if pad is None else pad)
        # Pairs of similar length share a batch, which needs less padding.
        order = sorted(range(len(rows)), key=rows.lengths.__getitem__)
        self._batches = [
            collate([rows[i] for i in order[first : first + batch_size]])
            for first in range(0, len(order), batch_size)
        ]
        self.targets = sum(int(batch["num_labels"]) for batch in self._batches)
        self._continued = ContinuedPairs(
            tokenizer, pairs, max_input_length=max_input_length, max_target_length=max_target_length
        )

    def __repr__(self) -> str:
        pairs = sum(len(batch["labels"]) for batch in self._batches)
        noun = "pair" if pairs == 1 else "pairs"
        return f"PairLoss({pairs} {noun}, {self.targets} target tokens)"

    @torch.no_grad()
    def __call__(self, model: Any) -> float:
        """Compute the mean over all target tokens of all pairs.

        Raises:
            MetroFastError: If the model has fewer embeddings than the tokenizer has tokens, or it
                is causal and a target leaves no room for its input.
        """
        size = model.get_input_embeddings().num_embeddings
        if size < self._vocabulary:
            raise MetroFastError(
                f"the tokenizer has {self._vocabulary} tokens, but the model {size} embeddings: "
                "use the model's own tokenizer"
            )
        if not model.config.is_encoder_decoder:
            return self._continued.loss(model)
        training = model.training
        model.eval()
        total = 0.0
        for batch in self._batches:
            inputs = {k: v.to(model.device) for k, v in batch.items() if k != "num_labels"}
            total += float(model(**inputs).loss) * int(batch["num_labels"])
        model.train(training)
        return total / self.targets


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Read a JSONL file of objects with an `input` and a `target`; other fields are ignored.

    Raises:
        FormatError: If a line is not such an object; the message names the line.
        OSError: If the file cannot be read.

    Example:
        >>> _ = Path("examples.jsonl").write_text('{"input": "is it red ?", "target": "yes"}')
        >>> read_pairs("examples.jsonl")
        [('is it red ?', 'yes')]
    """
    pairs = []
    for number, line in json_lines(Path(path)):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        fields = row if isinstance(row, dict) else {}
        source, target = fields.get("input"), fields.get("target")
        if not isinstance(source, str) or not isinstance(target, str):
            raise FormatError(f'{where}: expected {{"input": text, "target": text}}')
        pairs.append((source, target))
    return pairs

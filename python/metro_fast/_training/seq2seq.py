"""The cross-entropy of an encoder-decoder model, summed over its label tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metro_fast._training.objective import Batch, StepResult
from metro_fast.errors import MetroFastError

IGNORED = -100


class Seq2SeqObjective:
    """The loss of span corruption and of finetuning: cross-entropy per label token.

    transformers' T5 returns the mean over its batch and ignores the Trainer's count of tokens, so
    its updates under gradient accumulation are scaled wrongly. Here losses are summed, and divided
    once, over the whole window.

    Args:
        vocab_size: Labels must be in [0, vocab_size) or be -100.
        prepare_decoder_ids: Shifts labels to decoder inputs, for instance
            `model.prepare_decoder_input_ids_from_labels`.
    """

    losses = ("cross_entropy",)
    weights = (1.0,)
    counters: Mapping[str, int] = {"correct": 1, "total": 1}
    predicts = True

    def __init__(self, vocab_size: int, prepare_decoder_ids: Any) -> None:
        self.vocab_size = vocab_size
        self.prepare_decoder_ids = prepare_decoder_ids

    def count(self, batch: Batch) -> Tensor:
        """Count the label tokens of the batch: int64 [1]."""
        if "labels" not in batch:
            raise MetroFastError(
                f"the batch has {sorted(batch)}, expected input_ids and labels: use a collator "
                "that makes both"
            )
        labels: Tensor = batch["labels"]
        return (labels != IGNORED).sum().view(1)

    def run(self, model: nn.Module, batch: Batch) -> StepResult:
        """Sum the cross-entropy over the labels of a batch.

        Args:
            model: The encoder-decoder model, as the trainer wraps it.
            batch: int64 input_ids [B, L], labels [B, T] (-100 is ignored), attention_mask [B, L].

        Returns:
            One sum; counters `correct` and `total` of label tokens; the predictions.

        Raises:
            TypeError: If ids or labels are not int64.
            MetroFastError: If shapes do not fit, a label is outside the vocabulary, or the
                batch's `num_labels` is not the number of its labels.
        """
        ids, labels = batch["input_ids"], batch["labels"]
        self._check(ids, labels, batch.get("num_labels"))
        logits = model(
            input_ids=ids,
            attention_mask=batch.get("attention_mask"),
            decoder_input_ids=self.prepare_decoder_ids(labels),
        ).logits
        flat, targets = logits.flatten(0, 1), labels.flatten()
        total = functional.cross_entropy(
            flat.float(), targets, ignore_index=IGNORED, reduction="sum"
        )
        with torch.no_grad():
            best = flat.argmax(-1)
        counters = {"correct": (best == targets).sum(), "total": (targets != IGNORED).sum()}
        return StepResult(total.view(1), counters, best.view_as(labels))

    def figures(self, counters: Mapping[str, Tensor]) -> dict[str, float]:
        """`token_accuracy`: share of label tokens that the decoder ranks first."""
        total = float(counters["total"])
        return {"token_accuracy": float(counters["correct"]) / total} if total else {}

    def _check(self, ids: Tensor, labels: Tensor, num_labels: Tensor | None) -> None:
        for name, tensor in (("input_ids", ids), ("labels", labels)):
            if tensor.dtype != torch.int64:
                raise TypeError(f"{name} is {tensor.dtype}, expected torch.int64")
            if tensor.ndim != 2:
                raise MetroFastError(
                    f"{name} has shape {tuple(tensor.shape)}, expected [B, length]"
                )
        if ids.shape[0] != labels.shape[0] or not ids.numel() or not labels.numel():
            raise MetroFastError(
                f"input_ids {tuple(ids.shape)} and labels {tuple(labels.shape)} must have the same "
                "number of rows and at least one column"
            )
        if ids.device.type != "cpu":  # a check of values would wait for the device
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            raise MetroFastError(
                f"input_ids span [{low}, {high}], outside the vocabulary [0, {self.vocab_size})"
            )
        wrong = ((labels < 0) & (labels != IGNORED)) | (labels >= self.vocab_size)
        if wrong.any():
            raise MetroFastError(
                f"label {int(labels[wrong][0])} is outside the vocabulary [0, {self.vocab_size}) "
                f"and not {IGNORED}"
            )
        if num_labels is not None and int(num_labels) != int((labels != IGNORED).sum()):
            raise MetroFastError(
                f"the batch says num_labels={int(num_labels)}, but labels holds "
                f"{int((labels != IGNORED).sum())}: count after the last change of the labels"
            )

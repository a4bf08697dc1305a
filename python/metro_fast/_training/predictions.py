"""Token ids of every row, in the order of the rows: for `compute_metrics` and `predict`."""

import itertools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, denumpify_detensorize

from metro_fast._training.objective import Objective
from metro_fast.errors import MetroFastError

IGNORED = -100
UNREAD = {
    "compute_loss_func": "the objective computes the loss, as a sum",
    "preprocess_logits_for_metrics": "predictions are token ids already, not logits",
}
"""Arguments of the stock Trainer that have no effect here, and the reason."""


def predicts(objective: Objective) -> bool:
    """Whether an objective's `StepResult` has predictions."""
    return bool(getattr(objective, "predicts", False))


def check_arguments_type(args: Any, expected: type) -> None:
    """Refuse arguments of another class.

    Raises:
        TypeError: If `args` is not an instance of `expected`.
    """
    if isinstance(args, expected):
        return
    hint = ""
    if isinstance(args, Seq2SeqTrainingArguments):
        stock = {field.name for field in fields(TrainingArguments)}
        own = [field for field in fields(args) if field.name not in stock]
        given = [f.name for f in own if getattr(args, f.name) != f.default] or [own[0].name]
        hint = (
            f": {', '.join(given)} belongs to Seq2SeqTrainer, so call model.generate on the rows "
            "instead, for instance in a callback's on_evaluate"
        )
    raise TypeError(f"args is {type(args).__name__}, expected {expected.__name__}{hint}")


def check_evaluation(objective: Objective, args: Any, options: Mapping[str, Any]) -> None:
    """Refuse what an evaluation would leave unread, before the first step.

    Args:
        objective: The objective of the trainer.
        args: The training arguments.
        options: The other arguments of the trainer.

    Raises:
        MetroFastError: If an argument would have no effect; the message names it.
    """
    for name, reason in UNREAD.items():
        if options.get(name) is not None:
            raise MetroFastError(f"{name} would not be called, since {reason}: leave it out")
    if options.get("compute_metrics") is not None and not predicts(objective):
        raise MetroFastError(
            f"compute_metrics would not be called, since {type(objective).__name__} has no "
            "predictions: its evaluation has the figures of each loss already (eval_lm_accuracy, "
            "eval_rtd_auc and others), and a callback's on_evaluate can add more; leave it out"
        )
    if options.get("compute_metrics") is not None and args.prediction_loss_only:
        raise MetroFastError(
            "compute_metrics would not be called, since prediction_loss_only is True: leave one of "
            "them out"
        )


def check_no_ignored_keys(ignore_keys: Any) -> None:
    """Refuse keys of the model's output that are to be left out of the predictions.

    Raises:
        MetroFastError: If there are any.
    """
    if ignore_keys:
        raise MetroFastError(
            f"ignore_keys is {ignore_keys}, but predictions are token ids, not the outputs of the "
            "model, so there is nothing to ignore: leave it out"
        )


class Predictions:
    """Predicted token ids and labels of the rows of this rank, on the CPU."""

    def __init__(self) -> None:
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, ids: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            ids: int64 [B, T], the token that the model ranks first.
            labels: int64 [B, T], -100 at padding.
        """
        kept = torch.where(labels == IGNORED, IGNORED, ids)
        self._rows.extend(zip(kept.cpu().numpy(), labels.cpu().numpy(), strict=True))

    def gathered(self, accelerator: Accelerator) -> tuple[np.ndarray, np.ndarray]:
        """Bring the rows of all ranks together; a collective call.

        Rank r has the rows r, r + ranks, ... of the dataset (`evaluation_loader`).

        Returns:
            int64 [rows, T] ids and labels, with -100 at padding, in the order of the dataset.
        """
        several = accelerator.num_processes > 1
        parts = gather_object([self._rows]) if several else [self._rows]
        turns = itertools.zip_longest(*parts)  # streams that were split by hand may be uneven
        rows = [row for turn in turns for row in turn if row is not None]
        width = max((len(labels) for _, labels in rows), default=0)
        ids, labels = (np.full((len(rows), width), IGNORED) for _ in range(2))
        for i, (own_ids, own_labels) in enumerate(rows):
            ids[i, : len(own_ids)], labels[i, : len(own_labels)] = own_ids, own_labels
        return ids, labels


def with_predictions(
    output: EvalLoopOutput, found: tuple[np.ndarray, np.ndarray], compute_metrics: Any, prefix: str
) -> EvalLoopOutput:
    """Put predictions, and the user's metrics of them, into the result of an evaluation.

    Args:
        output: The result so far.
        found: The ids and labels of `Predictions.gathered`.
        compute_metrics: The user's function, or None.
        prefix: Prefix of the names of the metrics.

    Raises:
        MetroFastError: If a metric has the name of one of the exact figures.
    """
    ids, labels = found
    metrics = dict(output.metrics)
    if compute_metrics is not None:
        own = denumpify_detensorize(
            compute_metrics(EvalPrediction(predictions=ids, label_ids=labels))
        )
        named = {
            name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value
            for name, value in own.items()
        }
        taken = sorted(named.keys() & metrics.keys())
        if taken:
            raise MetroFastError(
                f"compute_metrics returned {', '.join(taken)}, which the evaluation has already: "
                "choose another name"
            )
        metrics |= named
    return EvalLoopOutput(ids, labels, metrics, output.num_samples)

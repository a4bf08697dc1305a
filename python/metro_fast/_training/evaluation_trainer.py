"""The part of the trainer that evaluates: exact figures, and predictions as token ids."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from metro_fast._training.finite import sample_ids_text
from metro_fast._training.objective import Objective, tokens_of
from metro_fast._training.predictions import (
    Predictions,
    check_no_ignored_keys,
    predicts,
    with_predictions,
)
from metro_fast._training.rows_trainer import RowsTrainer
from metro_fast._training.window import MetricWindow
from metro_fast.errors import MetroFastError


class EvaluationTrainer(RowsTrainer):
    """A Trainer whose evaluations are exact sums over all rows, each read by one rank.

    Args:
        objective: The losses, their counts and figures.
        **options: Arguments of `transformers.Trainer`.
    """

    def __init__(self, objective: Objective, **options: Any) -> None:
        super().__init__(**options)
        self.objective = objective
        self._evaluation = MetricWindow(objective)
        self._predictions: Predictions | None = None

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run the stock loop, with exact sums over all batches and ranks.

        `compute_metrics` and `predict` get the token ids that the model ranks first, and the
        labels: int64 [rows, T] in the order of the rows, with -100 at padding.

        Raises:
            MetroFastError: If `ignore_keys` is given.
        """
        check_no_ignored_keys(ignore_keys)
        if prediction_loss_only is None:
            prediction_loss_only = self.args.prediction_loss_only
        wanted = predicts(self.objective) and not prediction_loss_only
        self._predictions = Predictions() if wanted else None
        self._evaluation.reset()
        output = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        figures = self._evaluation.figures(self.accelerator)
        # A time that only an evaluation without a training has.
        output.metrics.pop(f"{metric_key_prefix}_model_preparation_time", None)
        output.metrics.update({f"{metric_key_prefix}_{k}": v for k, v in figures.items()})
        if self._predictions is None:
            return output
        found = self._predictions.gathered(self.accelerator)
        return with_predictions(output, found, self.compute_metrics, metric_key_prefix)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, None, None]:
        """Add one batch to the evaluation's sums and predictions, which are gathered at the end.

        The stock loop would gather after each batch, and ranks may have unequal numbers of them.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            try:
                result = self.objective.run(model, inputs)
            except MetroFastError as error:
                raise MetroFastError(
                    f"{error} (evaluation after step {self.state.global_step}; "
                    f"{sample_ids_text(inputs)})"
                ) from error
            self._evaluation.add(self.objective.count(inputs), result, tokens_of(inputs))
        if self._predictions is not None and result.predictions is not None:
            self._predictions.add(result.predictions, inputs["labels"])
        return None, None, None

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput:
        """Predict the token ids of every row; see `evaluation_loop`.

        Raises:
            MetroFastError: If the objective has no predictions.
        """
        if not predicts(self.objective):
            raise MetroFastError(
                f"{type(self.objective).__name__} has no predictions: use evaluate(rows, "
                f'metric_key_prefix="{metric_key_prefix}") for the figures of these rows, or '
                "model(**batch) for the outputs of a batch"
            )
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

"""The trainer of METRO and of its baselines."""

from copy import copy
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import EvalLoopOutput

from metro_fast._training import SummedLossTrainer
from metro_fast._training.objective import Batch
from metro_fast._training.predictions import check_arguments_type
from metro_fast.errors import MetroFastError
from metro_fast.metro.auxiliary_schedule import AuxiliarySchedule
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.disentangled import follow_auxiliary, is_followed
from metro_fast.metro.flops import MetroFlops
from metro_fast.metro.loading import differences
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.objectives import MetroObjective, losses_of
from metro_fast.metro.training_arguments import MetroTrainingArguments


class MetroTrainer(SummedLossTrainer):
    """Trains `MetroForPretraining` on METRO batches, or any encoder-decoder on span batches.

    The counts in the batches are the denominators, over the whole accumulation window and all
    ranks; `SummedLossTrainer` says what this promises, and why. The figures of every log line and
    of `evaluate()` are exact over all tokens since the last line; `rtd_auc` comes from a histogram
    of 1024 bins. The training rows may be a stream (`IterableDataset`), with `max_steps`: each rank
    gets its own rows, and each pass its own epoch.

    Args:
        model: `MetroForPretraining` (objective "metro"), or any encoder-decoder that shifts labels
            by itself, such as T5 and T5Gemma (objectives "span", "ul2" and "metro_t0_span").
        args: The training arguments.
        **options: Other arguments of `transformers.Trainer`: train_dataset, eval_dataset,
            data_collator, processing_class, callbacks, ...

    Raises:
        TypeError: If the model is another, or `args` are not `MetroTrainingArguments`.
        MetroFastError: If weights are given for a model with one loss.

    Example:
        >>> from metro_fast.data import DataCollatorForMetro
        >>> from metro_fast.metro import MetroConfig
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> trainer = MetroTrainer(
        ...     MetroForPretraining(MetroConfig(main=main, auxiliary={"num_layers": 1})),
        ...     MetroTrainingArguments("run", max_steps=1, save_strategy="no"),
        ...     train_dataset=[{"input_ids": [*range(4, 20)], "sample_id": i} for i in range(8)],
        ...     data_collator=DataCollatorForMetro(mask_token_id=3, vocab_size=64, pad_token_id=0),
        ... )
        >>> trainer.train().global_step
        1
    """

    def __init__(self, model: Any, args: MetroTrainingArguments, **options: Any) -> None:
        check_arguments_type(args, MetroTrainingArguments)
        if options.get("model_init") is not None:
            raise MetroFastError(
                "model_init is given, but the losses are chosen by the model: make the model first "
                "and give it as `model`"
            )
        given = {
            name: value
            for name in ("mlm_weight", "lm_weight", "rtd_weight")
            if (value := getattr(args, name)) is not None
        }
        if isinstance(model, MetroForPretraining):
            _set_weights(model.config, given)
            _refuse_half(model)
        elif not hasattr(model, "prepare_decoder_input_ids_from_labels"):
            raise TypeError(
                f"model is {type(model).__name__}, expected MetroForPretraining or an "
                "encoder-decoder of transformers"
            )
        elif given:
            raise MetroFastError(
                f"{', '.join(given)} given, but {type(model).__name__} is trained with one loss: "
                "leave the weights out"
            )
        objective = losses_of(model)
        super().__init__(objective, args, model=model, **options)
        self._metro_flops = None
        if isinstance(objective, MetroObjective):
            self.add_callback(AuxiliarySchedule(objective))
            self._metro_flops = MetroFlops(model, objective)

    def evaluation_loop(self, *args: Any, **options: Any) -> EvalLoopOutput:
        """Evaluate the model as it is after the run's steps: with, or without, its auxiliary model.

        A trainer that has made no step evaluates the model of step 0.
        """
        if isinstance(self.objective, MetroObjective):
            self.objective.step = self.state.global_step  # also of a run that had nothing left
        return super().evaluation_loop(*args, **options)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimizer; see `SummedLossTrainer`.

        With disentangled sharing the main model's embeddings follow its steps, also those of an
        optimizer that was given.
        """
        optimizer = super().create_optimizer(model)
        metro = self.model
        if isinstance(metro, MetroForPretraining):
            stepping = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps a used one
            if metro.config.embedding_sharing == "disentangled" and not is_followed(stepping):
                follow_auxiliary(metro, stepping)
        return optimizer

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Refuse a checkpoint whose weights are those of other options.

        Raises:
            MetroFastError: If there are other weights, or other weights are shared.
        """
        if not isinstance(self.model, MetroForPretraining):
            return
        changed = differences(MetroConfig.from_pretrained(checkpoint), self.model.config)
        if changed:
            raise MetroFastError(
                f"{checkpoint} was made with other options ({'; '.join(changed)}): resume with "
                "the options that made it"
            )

    def forward_flops(self, batch: Batch) -> int:
        """Count the operations of the forward pass, of the auxiliary model too."""
        if self._metro_flops is None:
            return super().forward_flops(batch)
        return sum(self._metro_flops.of_batch(batch))

    def step_flops(self, batch: Batch, factor: float) -> float:
        """Count those of forward and backward; a frozen auxiliary model has no backward pass."""
        if self._metro_flops is None:
            return super().step_flops(batch, factor)
        return self._metro_flops.step(batch, factor)


def _set_weights(config: MetroConfig, given: dict[str, float]) -> None:
    """Put weights of losses into a config, all of them or none."""
    tried = copy(config)
    for name, value in given.items():
        setattr(tried, name, value)
    tried.check()
    for name, value in given.items():
        setattr(config, name, value)  # saved with the model that was trained with it


def _refuse_half(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float16:
            raise MetroFastError(
                f"{name} is torch.float16, in which T5 overflows and gives NaN: convert the model "
                "with model.float(), and train with bf16=True or in fp32"
            )

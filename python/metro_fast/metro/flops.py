"""Floating-point operations of a METRO step: auxiliary, main encoder and decoder, and heads."""

import torch
from torch import Tensor

from metro_fast._training.flops import Seq2SeqFlops, StackFlops, linear_weights
from metro_fast._training.objective import Batch
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.objectives import MetroObjective


class MetroFlops:
    """Counts forward passes and steps, by the formula of the matrix product.

    Args:
        model: The model.
        objective: Knows whether the auxiliary model is trained, frozen or dropped.

    Example:
        >>> from metro_fast.metro import MetroConfig
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, auxiliary={"num_layers": 1}))
        >>> flops = MetroFlops(model, MetroObjective(model.config))
        >>> flops.forward(rows=1, length=10, target=10, masked=2, scored=2)
        (15744, 38688)
    """

    def __init__(self, model: MetroForPretraining, objective: MetroObjective) -> None:
        self._config, self._objective = model.config, objective
        self._auxiliary = StackFlops.of(model.auxiliary)
        self._main = Seq2SeqFlops(model.main)
        self._mlm = 2 * linear_weights(model.mlm_head)
        heads = (model.rtd_head, model.rtd_decoder_head)
        self._rtd, self._rtd_decoder = (
            0 if head is None else 2 * linear_weights(head) for head in heads
        )

    def forward(
        self, rows: int, length: int, target: int, masked: int, scored: int
    ) -> tuple[int, int]:
        """Operations of one forward pass.

        Args:
            rows: Number of rows.
            length: Tokens of a row of the encoder, with padding.
            target: The same of the decoder.
            masked: Masked positions of all rows.
            scored: Positions of all rows for which the decoder has logits.

        Returns:
            Those of the auxiliary model with its head, and those of the main model with its heads.
        """
        detected = scored if self._config.decoding_target == "masked_only" else rows * target
        return (
            self._auxiliary.forward(rows, length) + masked * self._mlm,
            self._main.forward(rows, length, target, scored)
            + rows * length * self._rtd
            + detected * self._rtd_decoder,
        )

    def of_batch(self, batch: Batch) -> tuple[int, int]:
        """Operations of one forward pass over a batch of `DataCollatorForMetro`."""
        rows, length = (int(size) for size in batch["input_ids"].shape)
        positions: Tensor = batch["masked_positions"]
        masked, target = int(positions.numel()), length
        if self._config.decoding_target == "masked_only":
            target = max(1, int(torch.bincount(positions // length, minlength=rows).max()))
        scored = rows * length if self._config.decoding_target == "all" else masked
        auxiliary, main = self.forward(rows, length, target, masked, scored)
        return (0 if self._objective.auxiliary == "dropped" else auxiliary), main

    def step(self, batch: Batch, factor: float) -> float:
        """Operations of forward and backward over a batch.

        Args:
            batch: The batch.
            factor: Those of forward and backward over those of the forward.
        """
        auxiliary, main = self.of_batch(batch)
        passes = factor if self._objective.auxiliary == "trained" else 1
        if self._config.sampling_mode == "eval":
            passes += 1  # a second forward pass, without dropout, makes the draws
        return factor * main + passes * auxiliary

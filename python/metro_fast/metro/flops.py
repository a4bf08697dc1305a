"""Floating-point operations of a METRO step: auxiliary, main encoder and decoder, and heads."""

from metro_fast._training.flops import Seq2SeqFlops, StackFlops, linear_weights
from metro_fast._training.objective import Batch
from metro_fast.metro.modeling import MetroForPretraining


class MetroFlops:
    """Counts the forward pass of a model, by the formula of the matrix product.

    Args:
        model: The model.

    Example:
        >>> from metro_fast.metro import MetroConfig
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, auxiliary_num_layers=1))
        >>> MetroFlops(model).forward(rows=1, length=10, masked=2)
        54176
    """

    def __init__(self, model: MetroForPretraining) -> None:
        self._auxiliary = StackFlops.of(model.auxiliary)
        self._main = Seq2SeqFlops(model.main)
        self._per_masked = 2 * int(model.auxiliary.shared.weight.numel())
        self._per_token = 0 if model.rtd_head is None else 2 * linear_weights(model.rtd_head)
        self._scores_all = model.config.decoding_target == "all"

    def forward(self, rows: int, length: int, masked: int) -> int:
        """Operations of one forward pass.

        Args:
            rows: Number of rows.
            length: Tokens of a row, with padding.
            masked: Masked positions of all rows.
        """
        scored = rows * length if self._scores_all else masked
        return (
            self._auxiliary.forward(rows, length)
            + masked * self._per_masked
            + self._main.forward(rows, length, length, scored)
            + rows * length * self._per_token
        )

    def of_batch(self, batch: Batch) -> int:
        """Operations of one forward pass over a batch of `DataCollatorForMetro`."""
        rows, length = batch["input_ids"].shape
        return self.forward(rows, length, int(batch["masked_positions"].numel()))

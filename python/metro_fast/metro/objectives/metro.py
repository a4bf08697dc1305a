"""METRO as an objective of the shared trainer: three losses, three counts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metro_fast._training import StepResult
from metro_fast._training.objective import Batch
from metro_fast.errors import MetroFastError
from metro_fast.metro import figures
from metro_fast.metro.configuration import MetroConfig

REQUIRED = (
    "input_ids",
    "attention_mask",
    "labels",
    "masked_positions",
    "sample_ids",
    "epoch",
    "num_masked",
    "num_labels",
    "num_encoder_tokens",
)


class MetroObjective:
    """The losses of the auxiliary model, of the decoder and of replaced-token detection.

    Args:
        config: The model's settings: decoding target and weights.
    """

    losses = ("mlm", "lm", "rtd")
    counters: Mapping[str, int] = figures.COUNTERS

    def __init__(self, config: MetroConfig) -> None:
        self.config = config

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the three losses."""
        lm_weight = 0.0 if self.config.rtd_only else self.config.lm_weight
        return (self.config.mlm_weight, lm_weight, self.config.rtd_weight)

    def count(self, batch: Batch) -> Tensor:
        """Read the counts that the collator put into the batch: int64 [3].

        Raises:
            MetroFastError: If the batch is not a METRO batch.
        """
        missing = [name for name in REQUIRED if name not in batch]
        if missing:
            raise MetroFastError(
                f"the batch lacks {', '.join(missing)} (it has {', '.join(sorted(batch))}): use "
                "metro_fast.data.DataCollatorForMetro"
            )
        decoded = "num_labels" if self.config.decoding_target == "all" else "num_masked"
        detected = "num_encoder_tokens" if self.config.rtd_target == "all" else "num_masked"
        names = ("num_masked", decoded, detected)
        return torch.stack([torch.as_tensor(batch[name]).view(()) for name in names])

    def run(self, model: nn.Module, batch: Batch) -> StepResult:
        """Run one forward pass, which gives three sums and the counters of the figures."""
        output = model(**{name: batch[name] for name in REQUIRED})
        sums = torch.stack([output.mlm_loss_sum, output.lm_loss_sum, output.rtd_loss_sum])
        with torch.no_grad():
            counters = figures.counters(output, batch["attention_mask"].bool())
        return StepResult(sums, counters)

    def figures(self, counters: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute accuracies and the figures of detection and replacement."""
        return figures.figures(counters)

"""METRO as an objective of the shared trainer: three losses, three counts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metro_fast._training import StepResult
from metro_fast._training.objective import Batch
from metro_fast.errors import MetroFastError
from metro_fast.metro import figures
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.noise import AuxiliaryStage
from metro_fast.metro.targets import denominators

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
        config: The model's settings: targets, heads and weights.

    Attributes:
        step: The optimizer step that is computed next, which decides whether the auxiliary model is
            trained, frozen or dropped; a trainer sets it.
    """

    counters: Mapping[str, int] = figures.COUNTERS

    def __init__(self, config: MetroConfig) -> None:
        self.config = config
        self.step = 0

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses: "mlm", "lm", and one for each detection head."""
        heads = {
            "none": (),
            "encoder": ("rtd",),
            "decoder": ("rtd_decoder",),
            "both": ("rtd", "rtd_decoder"),
        }
        return ("mlm", "lm", *heads[self.config.rtd_head])

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the losses; a frozen or dropped auxiliary model has 0."""
        config = self.config
        mlm = config.mlm_weight if self.auxiliary == "trained" else 0.0
        lm = 0.0 if config.rtd_only else config.lm_weight
        return (mlm, lm, *[config.rtd_weight] * (len(self.losses) - 2))

    @property
    def auxiliary(self) -> AuxiliaryStage:
        """Whether the auxiliary model is trained, frozen or dropped at this step."""
        frozen, dropped = self.config.auxiliary_frozen_from, self.config.auxiliary_dropped_from
        if dropped is not None and self.step >= dropped:
            return "dropped"
        return "frozen" if frozen is not None and self.step >= frozen else "trained"

    def count(self, batch: Batch) -> Tensor:
        """Read the counts that the collator put into the batch: int64 [losses].

        Raises:
            MetroFastError: If the batch is not a METRO batch.
        """
        missing = [name for name in REQUIRED if name not in batch]
        if missing:
            raise MetroFastError(
                f"the batch lacks {', '.join(missing)} (it has {', '.join(sorted(batch))}): use "
                "metro_fast.data.DataCollatorForMetro, without model_inputs_only"
            )
        counts = denominators(self.config, self.losses, batch)
        if self.auxiliary == "dropped":
            counts[0] = 0
        return counts

    def run(self, model: nn.Module, batch: Batch) -> StepResult:
        """Run one forward pass, which gives a sum for each loss and the counters of the figures."""
        output = model(**{name: batch[name] for name in REQUIRED}, auxiliary=self.auxiliary)
        sums = torch.stack([getattr(output, name).sum for name in self.losses])
        with torch.no_grad():
            counters = figures.counters(output, batch["attention_mask"].bool())
        return StepResult(sums, counters)

    def figures(self, counters: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute accuracies and the figures of detection and replacement."""
        return figures.figures(counters)

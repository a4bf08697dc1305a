"""The questions that METRO asks about an architecture."""

from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from metro_fast.metro.options import EmbeddingSharing


class Backbone(Protocol):
    """An architecture of main and auxiliary model.

    Both models have a token table `shared` and an `encoder`, the main one a `decoder` and an
    `lm_head` too; they are called as those of transformers' T5.

    Attributes:
        kinds: The `model_type`s of the main model's config.
        sharings: Values of `embedding_sharing` that the architecture has.
        block: Class names of the layers that a device holds whole.
    """

    kinds: tuple[str, ...]
    sharings: tuple[EmbeddingSharing, ...]
    block: tuple[str, ...]

    def main(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the main model, with random weights."""

    def auxiliary(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the auxiliary encoder, with random weights."""

    def ties(self, sharing: EmbeddingSharing, auxiliary: PreTrainedConfig) -> dict[str, str]:
        """Weights of the auxiliary encoder that are the main one's, by their names inside each."""

    def ties_head(self, config: PreTrainedConfig) -> bool:
        """Whether a new main model ties its head to the token embeddings."""

    def head_scale(self, config: PreTrainedConfig) -> float:
        """Factor of the decoder's rows before the main model's head."""

    def head_softcap(self, config: PreTrainedConfig) -> float | None:
        """Bound of the main model's logits, or None."""

    def tied_scale(self, config: PreTrainedConfig) -> float:
        """Factor of unit rows before a head tied to new embeddings, for logits of unit size."""

    def activation(self, config: PreTrainedConfig) -> str:
        """Name of the feed-forward layers' activation."""

    def blocks(self, encoder: nn.Module) -> list[nn.Module]:
        """The layers of an encoder or decoder, in order."""

    def shard_groups(self, model: Any) -> list[list[nn.Module]]:
        """The modules that each FSDP group holds, in the order of wrapping; the root is last.

        Weights that two modules share must be in one group (torch's `fully_shard` refuses them
        otherwise), or in none but the root's.
        """

"""METRO-T0's released architecture: positions and their LayerNorm can be shared too."""

from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from metro_fast.metro.modeling_metro_t0 import MetroT0EncoderModel, MetroT0ForConditionalGeneration
from metro_fast.metro.options import EmbeddingSharing

_TOKEN = ("shared.weight", "encoder.embed_tokens.weight")
_POSITION = (*_TOKEN, "encoder.pos_embed.weight")
_NORM = (*_POSITION, "encoder.first_layer_norm.weight", "encoder.first_layer_norm.bias")
_SHARED: dict[EmbeddingSharing, tuple[str, ...]] = {
    "none": (),
    "token": _TOKEN,
    "token_pos": _POSITION,
    "token_pos_norm": _NORM,
    "disentangled": (),
}


class MetroT0:
    """The architecture of METRO-T0; `backbone.Backbone` says what each method is for."""

    kinds: tuple[str, ...] = ("metro_t0",)
    sharings: tuple[EmbeddingSharing, ...] = tuple(_SHARED)
    block: tuple[str, ...] = ("MetroT0Block",)

    def main(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the main model, with random weights."""
        return MetroT0ForConditionalGeneration(config)

    def auxiliary(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the auxiliary encoder, with random weights."""
        return MetroT0EncoderModel(config)

    def ties(self, sharing: EmbeddingSharing, auxiliary: PreTrainedConfig) -> dict[str, str]:
        """Name the shared weights; tables of distances are each layer's own."""
        names = _SHARED[sharing]
        return {name: name.replace("encoder.embed_tokens", "shared") for name in names}

    def ties_head(self, config: PreTrainedConfig) -> bool:
        """One matrix is both embeddings and the output."""
        return True

    def head_scale(self, config: PreTrainedConfig) -> float:
        """The outputs have no factor."""
        return 1.0

    def head_softcap(self, config: PreTrainedConfig) -> float | None:
        """The logits have no bound."""
        return None

    def tied_scale(self, config: PreTrainedConfig) -> float:
        """Embeddings start with the variance 1 / (2 d_model), so that logits need no factor."""
        return 1.0

    def activation(self, config: PreTrainedConfig) -> str:
        """Name of the feed-forward layers' activation."""
        return str(config.dense_act_fn)

    def blocks(self, encoder: nn.Module) -> list[nn.Module]:
        """The layers of an encoder or decoder."""
        return list(encoder.get_submodule("block").children())

    def shard_groups(self, model: Any) -> list[list[nn.Module]]:
        """One group per layer: what the models share, embeddings and positions, is the root's."""
        stacks = (model.auxiliary.encoder, model.main.encoder, model.main.decoder)
        return [[block] for stack in stacks for block in self.blocks(stack)]

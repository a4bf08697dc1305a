"""T5 of transformers and its relatives: v1.0, v1.1, FLAN, mT5 and umT5."""

from typing import Any

from torch import nn
from transformers import (
    MT5EncoderModel,
    MT5ForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    T5EncoderModel,
    T5ForConditionalGeneration,
    UMT5EncoderModel,
    UMT5ForConditionalGeneration,
)

from metro_fast.metro.options import EmbeddingSharing

_CLASSES: dict[str, tuple[Any, Any]] = {
    "t5": (T5ForConditionalGeneration, T5EncoderModel),
    "mt5": (MT5ForConditionalGeneration, MT5EncoderModel),
    "umt5": (UMT5ForConditionalGeneration, UMT5EncoderModel),
}
_BIAS = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
_NORM = "encoder.final_layer_norm.weight"


class T5:
    """The T5 family; `backbone.Backbone` says what each method is for."""

    kinds: tuple[str, ...] = tuple(_CLASSES)
    sharings: tuple[EmbeddingSharing, ...] = ("none", "token", "token_rel_norm", "disentangled")
    block: tuple[str, ...] = ("T5Block", "MT5Block", "UMT5Block")

    def main(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the main model, with random weights."""
        model: PreTrainedModel = _CLASSES[config.model_type][0](config)
        return model

    def auxiliary(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build the auxiliary encoder, with random weights."""
        model: PreTrainedModel = _CLASSES[config.model_type][1](config)
        return model

    def ties(self, sharing: EmbeddingSharing, auxiliary: PreTrainedConfig) -> dict[str, str]:
        """Name the shared weights: umT5 has a table of biases per layer, the others one."""
        names: list[str] = []
        if sharing in ("token", "token_rel_norm"):
            names = ["shared.weight", "encoder.embed_tokens.weight"]
        if sharing == "token_rel_norm":
            layers = auxiliary.num_layers if auxiliary.model_type == "umt5" else 1
            names += [_BIAS.format(layer) for layer in range(layers)] + [_NORM]
        return {name: name.replace("encoder.embed_tokens", "shared") for name in names}

    def ties_head(self, config: PreTrainedConfig) -> bool:
        """T5 v1.0 and umT5 as transformers runs it scale their outputs, and tie; others do not."""
        return self.head_scale(config) != 1.0

    def head_scale(self, config: PreTrainedConfig) -> float:
        """Read the factor that transformers' forward of each model applies."""
        scaled = {
            "t5": getattr(config, "scale_decoder_outputs", True),
            "mt5": False,
            "umt5": config.tie_word_embeddings,
        }[config.model_type]
        return _root(config) if scaled else 1.0

    def head_softcap(self, config: PreTrainedConfig) -> float | None:
        """T5's logits have no bound."""
        return None

    def tied_scale(self, config: PreTrainedConfig) -> float:
        """Undo the size of N(0, 1) embeddings, whatever the main head does."""
        return _root(config)

    def activation(self, config: PreTrainedConfig) -> str:
        """Name of the feed-forward layers' activation."""
        return str(config.dense_act_fn)

    def blocks(self, encoder: nn.Module) -> list[nn.Module]:
        """The layers of an encoder or decoder."""
        return list(encoder.get_submodule("block").children())

    def shard_groups(self, model: Any) -> list[list[nn.Module]]:
        """One group per layer; with shared biases the first layers of both encoders are one."""
        auxiliary, encoder, decoder = (
            self.blocks(stack)
            for stack in (model.auxiliary.encoder, model.main.encoder, model.main.decoder)
        )
        groups = [[block] for block in (*auxiliary, *encoder, *decoder)]
        if model.config.embedding_sharing != "token_rel_norm":
            return groups
        per_layer = model.config.main.model_type == "umt5"
        together = min(len(auxiliary), len(encoder)) if per_layer else 1
        shared = [[a, e] for a, e in zip(auxiliary, encoder, strict=False)][:together]
        held = {id(block) for group in shared for block in group}
        return shared + [group for group in groups if id(group[0]) not in held]


def _root(config: PreTrainedConfig) -> float:
    scale: float = config.d_model**-0.5  # not 1 / sqrt: this is transformers' value, bit for bit
    return scale

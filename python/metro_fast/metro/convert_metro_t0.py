"""Weights of METRO-T0 under the names of others: fairseq's, and those of the released models."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration_metro_t0 import MetroT0Config
from metro_fast.metro.modeling_metro_t0 import MetroT0ForConditionalGeneration

_TABLES = {
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.output_projection.weight",
    "lm_head.weight",
}
_MARKS = {"encoder.version", "decoder.version"}
_STACK = {"embed_positions": "pos_embed", "layernorm_embedding": "first_layer_norm"}
_PROJECTION = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o"}
_FEED_FORWARD = {
    "fc1": "DenseReluDense.wi",
    "fc2": "DenseReluDense.wo",
    "final_layer_norm": "layer_norm",
}
_LAYER = {
    "self_attn_layer_norm": "layer.0.layer_norm",
    "self_attn_rel_pos.rel_attn_bias": "layer.0.SelfAttention.relative_attention_bias",
    "encoder_attn_layer_norm": "layer.1.layer_norm",
    **{f"self_attn.{old}": f"layer.0.SelfAttention.{new}" for old, new in _PROJECTION.items()},
    **{f"encoder_attn.{old}": f"layer.1.EncDecAttention.{new}" for old, new in _PROJECTION.items()},
}


def metro_t0_name(name: str) -> str:
    """Translate the name of one weight.

    Args:
        name: A name of fairseq's `transformer_t5`, or one of the released models, which stays.

    Example:
        >>> metro_t0_name("decoder.layers.3.fc1.bias")
        'decoder.block.3.layer.2.DenseReluDense.wi.bias'
    """
    if name in _TABLES:
        return "shared.weight"
    found = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if found:
        stack, number, part, kind = found.groups()
        last = {k: f"layer.{1 if stack == 'encoder' else 2}.{v}" for k, v in _FEED_FORWARD.items()}
        return f"{stack}.block.{number}.{({**_LAYER, **last}).get(part, part)}.{kind}"
    found = re.fullmatch(r"(encoder|decoder)\.(embed_positions|layernorm_embedding)\.(.+)", name)
    if found:
        stack, part, kind = found.groups()
        return f"{stack}.{_STACK[part]}.{kind}"
    return name


def convert_metro_t0(weights: Mapping[str, Tensor], config: MetroT0Config) -> dict[str, Tensor]:
    """Name the weights of a published model as `MetroT0ForConditionalGeneration` does.

    Args:
        weights: All weights, by fairseq's names or by those of the released models. The marks
            `encoder.version` and `decoder.version` of fairseq hold no weight, and are left out.
        config: The settings of the model. The published conversion leaves
            `relative_attention_max_distance` at 128, where the large models need 256.

    Returns:
        The same tensors by the names of a saved model, in its order, the token table once.

    Raises:
        MetroFastError: If a weight is missing, unknown, or of another shape, or if the copies of
            the token table differ. The message names the weights.

    Example:
        >>> config = MetroT0Config(vocab_size=9, d_model=8, num_heads=2, num_layers=1, d_ff=8)
        >>> weights = MetroT0ForConditionalGeneration(config).state_dict()
        >>> "lm_head.weight" in weights, "lm_head.weight" in convert_metro_t0(weights, config)
        (True, False)
    """
    with torch.device("meta"):
        model = MetroT0ForConditionalGeneration(config)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    named: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    unknown = []
    for source, weight in weights.items():
        name = metro_t0_name(source)
        if source in _MARKS:
            continue
        if name not in shapes:
            unknown.append(source)
        elif name in named and not torch.equal(named[name], weight):
            raise MetroFastError(
                f"{source} differs from {sources[name]}, expected equal values: this architecture "
                "has one table of tokens"
            )
        elif weight.shape != shapes[name]:
            raise MetroFastError(
                f"{source} has the shape {list(weight.shape)}, expected {list(shapes[name])}; set "
                "the sizes of the config to those of the weights"
            )
        else:
            named.setdefault(name, weight)
            sources.setdefault(name, source)
    missing = [name for name in shapes if name not in named]
    for what, names in (("unknown", unknown), ("missing", missing)):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise MetroFastError(
                f"{what} weights ({len(names)}): {shown}; expected those of a METRO-T0 model of "
                f"{config.num_layers} + {config.num_decoder_layers} layers, and no other; give "
                "the whole checkpoint, and the config that it was trained with"
            )
    return {name: named[name] for name in shapes}

"""Meaning of the names in adapters: roles, and which two tensors are factors of one update."""

import re
from typing import NamedTuple

from metro_fast.errors import MetroFastError

KIND_OF_ROLE = {"lora_A": "lora", "lora_B": "lora", "ia3": "ia3", "prompt": "prompt"}
"""The kind of adapter that has tensors of a role."""

_FACTORS = (
    # PEFT: q.lora_A.weight, embed.lora_embedding_B, and with an adapter's name q.lora_A.one.weight.
    re.compile(r"(?P<module>.*)\.lora_(?:embedding_)?(?P<factor>[AB])(?P<rest>$|\..*)"),
    # kohya, LyCORIS: lora_unet_mid_block_attn1_to_q.lora_down.weight.
    re.compile(r"(?P<module>.*)\.lora_(?P<factor>down|up)(?P<rest>$|\..*)"),
    # diffusers: unet.mid_block.processor.to_q_lora.down.weight, to_q.lora_linear_layer.up.weight.
    re.compile(r"(?P<module>.*[._]lora(?:_linear_layer)?)\.(?P<factor>down|up)(?P<rest>$|\..*)"),
)
_FACTORS_IF_LORA = (
    # lora_diffusion: text_encoder:0:down. Only the caller can say that so plain a name is LoRA.
    re.compile(r"(?P<module>.*):(?P<factor>down|up)(?P<rest>)"),
)
_SWAPPED = {"A": "B", "B": "A", "down": "up", "up": "down"}
_PLAIN = (
    ("ia3", re.compile(r"\.ia3_l(\.|$)")),
    ("prompt", re.compile(r"(^|\.)prompt_embeddings(\.|$)")),
)
_T_FEW = re.compile(r"\.multi_lora_b(\.|$)")
_REFUSED = {
    "lora_magnitude_vector": "DoRA magnitude vectors",
    "dora_scale": "DoRA magnitude vectors",
    "lora_variant": "variants of LoRA",
    "lora_diag": "KaSA",
    "lora_mid": "LoCon with a core matrix",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "vera_lambda": "VeRA",
    "trainable_tokens": "trainable tokens",
}
_FACTOR_BIAS = re.compile(r"\.lora_(embedding_)?[AB](\..*)?\.bias$")


class Factor(NamedTuple):
    """One of the two matrices of a LoRA update B A.

    Attributes:
        module: Name of the module that it updates.
        role: lora_A or lora_B.
        partner: Name of the other matrix.
    """

    module: str
    role: str
    partner: str


def factor_of(name: str) -> Factor | None:
    """The factor of LoRA that a name stands for, or None; `:up` and `:down` are factors too.

    Example:
        >>> factor_of("lora_unet_to_q.lora_down.weight")
        Factor(module='lora_unet_to_q', role='lora_A', partner='lora_unet_to_q.lora_up.weight')
    """
    for pattern in _FACTORS + _FACTORS_IF_LORA:
        found = pattern.fullmatch(name)
        if found:
            at, end = found.span("factor")
            role = "lora_A" if found["factor"] in ("A", "down") else "lora_B"
            # Two adapters of one module differ in what follows the factor.
            module = found["module"] + found["rest"].removesuffix(".weight")
            return Factor(module, role, name[:at] + _SWAPPED[found["factor"]] + name[end:])
    return None


def role_of(name: str, kind: str | None = None) -> str | None:
    """The role of a tensor according to its name, or None.

    Args:
        name: Name of a tensor in an adapter.
        kind: The kind of the adapter, if the caller knows it. It gives a meaning to names that
            are too plain otherwise: `text_encoder:0:down` of lora_diffusion with `"lora"`, and
            `multi_lora_b` of T-few with `"ia3"`.

    Example:
        >>> role_of("base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight")
        'lora_A'
        >>> role_of("text_encoder:0:down"), role_of("text_encoder:0:down", "lora")
        (None, 'lora_A')
    """
    patterns = _FACTORS + (_FACTORS_IF_LORA if kind == "lora" else ())
    if any(pattern.fullmatch(name) for pattern in patterns):
        factor = factor_of(name)
        return None if factor is None else factor.role
    if kind == "ia3" and _T_FEW.search(name):
        return "ia3"
    return next((role for role, pattern in _PLAIN if pattern.search(name)), None)


def refuse_unsupported(name: str) -> None:
    """Refuse tensors of adapters that have more than A and B, IA3 vectors or prompts.

    Raises:
        MetroFastError: Naming the tensor and the method that it belongs to.
    """
    for part, method in _REFUSED.items():
        if part in name:
            raise MetroFastError(f"{name}: {method} cannot be compressed, only plain LoRA can")
    if _FACTOR_BIAS.search(name):
        raise MetroFastError(f"{name}: LoRA with biases (lora_bias) cannot be compressed")

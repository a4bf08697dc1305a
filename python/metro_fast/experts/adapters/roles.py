"""What the names of adapters tell: roles, and which two tensors are the factors of one update."""

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
_FACTORS_IF_TOLD = (
    # lora_diffusion: text_encoder:0:down. Too plain a name to be taken for LoRA unasked.
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
    "lora_mid": "LoCon with a core of its own",
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
    """The factor that a name spells, or None; a name ending in `:up` or `:down` is one too.

    Example:
        >>> factor_of("lora_unet_to_q.lora_down.weight")
        Factor(module='lora_unet_to_q', role='lora_A', partner='lora_unet_to_q.lora_up.weight')
    """
    for pattern in _FACTORS + _FACTORS_IF_TOLD:
        found = pattern.fullmatch(name)
        if found:
            at, end = found.span("factor")
            role = "lora_A" if found["factor"] in ("A", "down") else "lora_B"
            # Two adapters of one module differ in what stands behind the factor.
            module = found["module"] + found["rest"].removesuffix(".weight")
            return Factor(module, role, name[:at] + _SWAPPED[found["factor"]] + name[end:])
    return None


def role_of(name: str, kind: str | None = None) -> str | None:
    """The role that a name tells, or None.

    Args:
        name: Name of a tensor in an adapter.
        kind: What the caller knows the adapter to be: then names are understood that are too plain
            to be believed unasked (`text_encoder:0:down` of lora_diffusion with `"lora"`,
            `multi_lora_b` of T-few with `"ia3"`).

    Example:
        >>> role_of("base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight")
        'lora_A'
        >>> role_of("text_encoder:0:down"), role_of("text_encoder:0:down", "lora")
        (None, 'lora_A')
    """
    patterns = _FACTORS + (_FACTORS_IF_TOLD if kind == "lora" else ())
    if any(pattern.fullmatch(name) for pattern in patterns):
        factor = factor_of(name)
        return None if factor is None else factor.role
    if kind == "ia3" and _T_FEW.search(name):
        return "ia3"
    return next((role for role, pattern in _PLAIN if pattern.search(name)), None)


def refuse_unsupported(name: str) -> None:
    """Refuse tensors whose adapters are more than A, B, IA3 vectors or prompts.

    Raises:
        MetroFastError: Naming the tensor and what it is.
    """
    for part, what in _REFUSED.items():
        if part in name:
            raise MetroFastError(f"{name}: {what} cannot be compressed, only plain LoRA can")
    if _FACTOR_BIAS.search(name):
        raise MetroFastError(f"{name}: LoRA with biases (lora_bias) cannot be compressed")

"""Meaning of the names in adapters: roles, and which two tensors are factors of one update."""

import re
from collections.abc import Collection
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
# kohya, LyCORIS: lora_unet_to_q.alpha; ai-toolkit, ComfyUI: to_q.alpha beside to_q.lora_A.weight;
# diffusers: .alpha after a module's name, or after a factor's: to_q_lora.down.weight.alpha.
_ALPHA = re.compile(r"(?P<stem>.+)[.:](?:lora_|network_)?alpha")
_FACTOR_ALPHA = re.compile(
    r"(?!.*\.lora_embedding_).*[._:](?:lora_)?(?:A|B|down|up)(?:\.weight)?[.:]alpha"
)
_LORA_SUFFIX = re.compile(r"[._]lora(?:_linear_layer)?$")
_SWAPPED = {"A": "B", "B": "A", "down": "up", "up": "down"}
_PLAIN = (
    ("ia3", re.compile(r"\.ia3_l(\.|$)")),
    ("prompt", re.compile(r"(^|\.)prompt_embeddings(\.|$)")),
)
_T_FEW = re.compile(r"\.multi_lora_b(\.|$)")
_REFUSED = {
    "dora_scale": "DoRA magnitude vectors of LyCORIS",
    "lora_variant": "variants of LoRA",
    "lora_diag": "KaSA",
    "lora_mid": "LoCon with a core matrix",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "vera_lambda": "VeRA",
    "trainable_tokens": "trained rows of embeddings (trainable_token_indices)",
}


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
    found = _parse(name)
    if found is None:
        return None
    at, end = found.span("factor")
    role = "lora_A" if found["factor"] in ("A", "down") else "lora_B"
    # Two adapters of one module differ in what follows the factor.
    module = found["module"] + found["rest"].removesuffix(".weight")
    return Factor(module, role, name[:at] + _SWAPPED[found["factor"]] + name[end:])


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
    found = _parse(name)
    if found is not None and (kind == "lora" or found.re in _FACTORS):
        factor = factor_of(name)
        return None if factor is None else factor.role
    if kind == "ia3" and _T_FEW.search(name):
        return "ia3"
    return next((role for role, pattern in _PLAIN if pattern.search(name)), None)


def alphas_of(names: Collection[str]) -> dict[str, str]:
    """The tensors that hold the alpha of a LoRA module, by module (as `factor_of` names it).

    Such a tensor has one number. The readers of these files (kohya, LyCORIS, ComfyUI, diffusers)
    multiply the module's update by it and divide by the rank; without it they multiply by 1. PEFT
    reads alpha from adapter_config.json alone.

    Args:
        names: The names of all tensors of a LoRA.

    Raises:
        MetroFastError: If a module has two of them, or one of them belongs to no module.

    Example:
        >>> names = ["lora_te_q.lora_down.weight", "lora_te_q.lora_up.weight", "lora_te_q.alpha"]
        >>> alphas_of(names)
        {'lora_te_q': 'lora_te_q.alpha'}
    """
    stems: dict[str, set[str]] = {}
    for name in names:
        factor = factor_of(name)
        if factor is not None:
            for stem in _stems(name):
                stems.setdefault(stem, set()).add(factor.module)
    found: dict[str, str] = {}
    for name in names:
        alpha = None if factor_of(name) is not None else _ALPHA.fullmatch(name)
        if alpha is None:
            continue
        if alpha["stem"] not in stems:
            raise MetroFastError(
                f"{name} is named like the alpha of a LoRA module, but no factors belong to it: "
                "remove it, or rename it if it is something else"
            )
        for module in stems[alpha["stem"]]:
            if module in found:
                raise MetroFastError(f"{module} has two alphas, {found[module]} and {name}")
            found[module] = name
    return found


def alpha_name(name: str, like: tuple[str, str]) -> str:
    """The name of the alpha of a factor's module, spelled as that of another module.

    Args:
        name: The name of the factor.
        like: The name of a factor of the same role, and of the alpha of its module.

    Raises:
        MetroFastError: If the alpha is not that of the factor.

    Example:
        >>> alpha_name("te_q.lora_down.weight", ("te_k.lora_down.weight", "te_k.alpha"))
        'te_q.alpha'
    """
    alpha = _ALPHA.fullmatch(like[1])
    known = _stems(like[0])
    if alpha is None or alpha["stem"] not in known:
        raise MetroFastError(f"{like[1]} is not the alpha of the module of {like[0]}")
    return _stems(name)[known.index(alpha["stem"])] + like[1][alpha.end("stem") :]


def _parse(name: str) -> re.Match[str] | None:
    """The parts of a factor's name; its bias and alpha (q_lora.down.weight.alpha) are not one."""
    if name.endswith(".bias") or _FACTOR_ALPHA.fullmatch(name):
        return None
    matches = (pattern.fullmatch(name) for pattern in _FACTORS + _FACTORS_IF_LORA)
    return next((found for found in matches if found), None)


def _stems(name: str) -> list[str]:
    """Parts of a name that may precede .alpha in the name of the alpha of a factor's module."""
    found, factor = _parse(name), factor_of(name)
    if found is None or factor is None:
        raise MetroFastError(f"{name} is not the name of a factor of LoRA")
    module = found["module"]
    partner = factor.partner
    return [
        _LORA_SUFFIX.sub("", module), module, factor.module, name, partner,
        name.removesuffix(".weight"), partner.removesuffix(".weight"),
    ]  # fmt: skip


def refuse_unsupported(name: str) -> None:
    """Refuse tensors of adapters that have more than A and B, IA3 vectors or prompts.

    Raises:
        MetroFastError: Naming the tensor and the method that it belongs to.
    """
    for part, method in _REFUSED.items():
        if part in name:
            raise MetroFastError(f"{name}: {method} cannot be compressed, only plain LoRA can")

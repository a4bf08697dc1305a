"""The architectures that METRO trains, chosen by the main model's `model_type`."""

from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.metro.backbones.backbone import Backbone
from metro_fast.metro.backbones.metro_t0 import MetroT0
from metro_fast.metro.backbones.t5 import T5

__all__ = ["BACKBONES", "Backbone", "backbone_of"]

_ALL: tuple[Backbone, ...] = (T5(), MetroT0())
BACKBONES: dict[str, Backbone] = {kind: backbone for backbone in _ALL for kind in backbone.kinds}
"""`model_type` of a config to its backbone."""


def backbone_of(config: Any) -> Backbone:
    """Find the backbone of an encoder-decoder.

    Args:
        config: Its config, or the name of its `model_type`.

    Raises:
        MetroFastError: If METRO does not support the architecture.

    Example:
        >>> from transformers import T5Config
        >>> backbone_of(T5Config()).sharings
        ('none', 'token', 'token_rel_norm', 'disentangled')
    """
    kind = config if isinstance(config, str) else getattr(config, "model_type", None)
    if kind not in BACKBONES:
        raise MetroFastError(
            f"main.model_type is {quoted(kind)}, expected one of {', '.join(sorted(BACKBONES))}: "
            "METRO needs an encoder-decoder whose encoder it can shorten into the auxiliary model"
        )
    return BACKBONES[kind]

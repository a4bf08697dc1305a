"""Which optimizer a trainer makes: AdamW or Adafactor over our groups, or a stock one."""

from typing import Any

import torch
from torch import nn

from metro_fast._parameter_groups import parameter_groups
from metro_fast._training.arguments import RMS_SCALED, SummedLossArguments
from metro_fast._training.rms_adamw import RmsScaledAdamW
from metro_fast.errors import MetroFastError


def has_our_groups(args: SummedLossArguments, *, own_optimizer: bool) -> bool:
    """Whether the optimizer gets the groups of `metro_fast._parameter_groups`.

    Args:
        args: The training arguments.
        own_optimizer: Whether the caller brought an optimizer class.

    Returns:
        True for AdamW and Adafactor, False for every other optimizer, which gets transformers' own
        groups.

    Raises:
        MetroFastError: If another optimizer is to have multipliers or `rms_scaled`.
    """
    if args.optim in RMS_SCALED and not own_optimizer:
        return True
    found = "an optimizer class of the caller" if own_optimizer else f"optim={args.optim.value}"
    multipliers = args.embedding_multiplier, args.relative_bias_multiplier
    if multipliers != (1.0, 1.0):
        raise MetroFastError(
            f"the learning-rate multipliers {multipliers[0]} and {multipliers[1]} need optim="
            f"{' or '.join(RMS_SCALED)}, got {found}"
        )
    if args.rms_scaled:
        raise MetroFastError(f"rms_scaled=True needs optim={' or '.join(RMS_SCALED)}, got {found}")
    return False


def make_optimizer(
    args: SummedLossArguments, model: nn.Module, stock: type[Any], options: dict[str, Any]
) -> torch.optim.Optimizer:
    """Make AdamW or Adafactor over the groups of a model, scaled by the size of tensors if wanted.

    Args:
        args: The training arguments.
        model: The model.
        stock: The class that transformers chose for `args.optim`.
        options: The keywords that transformers chose for it.
    """
    groups = parameter_groups(
        model,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        embedding_multiplier=args.embedding_multiplier,
        relative_bias_multiplier=args.relative_bias_multiplier,
    )
    optimizer: torch.optim.Optimizer
    if not args.rms_scaled:
        optimizer = stock(groups, **options)
    elif "scale_parameter" in options:
        optimizer = stock(groups, **{**options, "scale_parameter": True})
    else:
        shared = {name: options[name] for name in ("lr", "betas", "eps")}
        optimizer = RmsScaledAdamW(groups, **shared)
    return optimizer

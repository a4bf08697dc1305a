"""Which optimizer a trainer makes: AdamW with learning-rate multipliers, or a stock one."""

from typing import Any

from torch import nn

from metro_fast._parameter_groups import parameter_groups
from metro_fast._training.arguments import SummedLossArguments
from metro_fast.errors import MetroFastError

ADAMW = ("adamw_torch", "adamw_torch_fused")


def has_our_groups(args: SummedLossArguments, *, own_optimizer: bool) -> bool:
    """Whether the optimizer gets the groups of `metro_fast._parameter_groups`.

    Args:
        args: The training arguments.
        own_optimizer: Whether the caller brought an optimizer class.

    Returns:
        True for AdamW, False for every other optimizer, which gets transformers' own groups.

    Raises:
        MetroFastError: If another optimizer is to have multipliers.
    """
    if args.optim in ADAMW and not own_optimizer:
        return True
    multipliers = args.embedding_multiplier, args.relative_bias_multiplier
    if multipliers != (1.0, 1.0):
        raise MetroFastError(
            f"the learning-rate multipliers {multipliers[0]} and {multipliers[1]} need optim="
            f"{' or '.join(ADAMW)}, got {args.optim}"
        )
    return False


def groups_of(args: SummedLossArguments, model: nn.Module) -> list[dict[str, Any]]:
    """The optimizer groups of a model, at the rates of the training arguments."""
    return parameter_groups(
        model,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        embedding_multiplier=args.embedding_multiplier,
        relative_bias_multiplier=args.relative_bias_multiplier,
    )

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


_NAMES = {
    "initial_lr": "learning_rate",
    "weight_decay": "weight_decay",
    "betas": "adam_beta1 and adam_beta2",
    "eps": "adam_epsilon",
}
"""The settings of a group of parameters that stay as they are, by the arguments they come from."""


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Refuse an optimizer of the caller that steps parameters which the model does not have.

    That is so if the model was copied, converted or given other embeddings after the optimizer was
    made: those parameters would never change.

    Raises:
        MetroFastError: If there are such parameters.
    """
    own = {id(parameter) for parameter in model.parameters()}
    given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    others = sum(id(parameter) not in own for parameter in given)
    if others:
        raise MetroFastError(
            f"{others} of the {len(given)} parameters of the optimizer are not in the model, which "
            "would not be trained by it: make the optimizer from model.parameters() after the last "
            "change of the model"
        )


def steady_settings(optimizer: Any) -> list[dict[str, Any]]:
    """The settings of each group of parameters that a schedule does not change."""
    return [
        {name: group[name] for name in _NAMES if name in group} for group in optimizer.param_groups
    ]


def check_resumed(wanted: list[dict[str, Any]], optimizer: Any, checkpoint: str) -> None:
    """Refuse to resume with settings of the optimizer that are not those of the checkpoint.

    An optimizer takes the settings of the checkpoint with its state, so others would be dropped.

    Args:
        wanted: `steady_settings` of the optimizer of this run.
        optimizer: The same optimizer, with the state of the checkpoint.
        checkpoint: The folder.

    Raises:
        MetroFastError: If one differs.
    """
    for new, old in zip(wanted, steady_settings(optimizer), strict=True):
        if new.keys() != old.keys():
            raise MetroFastError(
                f"the optimizer of {checkpoint} has {', '.join(old)}, and that of this run has "
                f"{', '.join(new)}: resume with the same optim"
            )
        for name, value in new.items():
            if value != old[name]:
                raise MetroFastError(
                    f"{_NAMES[name]} is {value}, but {checkpoint} was trained with {old[name]}, "
                    f"which its optimizer keeps: resume with {old[name]}, or start another run "
                    "from the model of the checkpoint"
                )


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

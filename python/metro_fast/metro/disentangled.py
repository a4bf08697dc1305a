"""Gradient-disentangled embedding sharing (DeBERTaV3, arXiv 2111.09543).

DeBERTaV3 gives the detecting model the table sg(E) + D: E is the generator's, whose gradient is
stopped there, and D a second table that starts at 0. Here the sum itself is the main model's table,
so that it is a plain T5 at any moment. For the length of an optimizer step it is D alone: the
optimizer then updates, decays and scales D as it would in DeBERTaV3, whatever optimizer it is, and
the new E is added afterwards.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

_FOLLOWED: WeakKeyDictionary[Optimizer, RemovableHandle] = WeakKeyDictionary()


def follow_auxiliary(model: Any, optimizer: Optimizer) -> tuple[RemovableHandle, RemovableHandle]:
    """Let the main table follow every step of an optimizer that updates the auxiliary table.

    `MetroTrainer` calls it; a loop of your own calls it once, after the optimizer is made. The
    optimizer must not compute the loss itself (a `closure`), because the main table is not whole
    during its step.

    Args:
        model: `MetroForPretraining` with `embedding_sharing="disentangled"`.
        optimizer: Updates both tables.

    Returns:
        The handles of the two hooks; `remove()` of both ends the sharing.

    Raises:
        MetroFastError: If the model shares in another way, the optimizer lacks one of the tables,
            or the main table follows it already.

    Example:
        >>> from metro_fast.metro import MetroConfig, MetroForPretraining
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, embedding_sharing="disentangled"))
        >>> handles = follow_auxiliary(model, torch.optim.AdamW(model.parameters()))
    """
    _check(model, optimizer)

    @torch.no_grad()
    def keep_the_difference(*_: object) -> None:
        main, auxiliary = _tables(model)
        main.sub_(auxiliary.to(main.dtype))

    @torch.no_grad()
    def add_the_table(*_: object) -> None:
        main, auxiliary = _tables(model)
        main.add_(auxiliary.to(main.dtype))

    handles = (
        optimizer.register_step_pre_hook(keep_the_difference),
        optimizer.register_step_post_hook(add_the_table),
    )
    _FOLLOWED[optimizer] = handles[0]
    return handles


def is_followed(optimizer: Optimizer) -> bool:
    """Whether a main table follows the steps of this optimizer."""
    handle = _FOLLOWED.get(optimizer)
    hooks = None if handle is None else handle.hooks_dict_ref()
    return hooks is not None and handle is not None and handle.id in hooks


def _tables(model: Any) -> tuple[Tensor, Tensor]:
    return model.main.shared.weight, model.auxiliary.shared.weight


def _check(model: Any, optimizer: Optimizer) -> None:
    sharing = model.config.embedding_sharing
    if sharing != "disentangled":
        raise MetroFastError(
            f"embedding_sharing is {quoted(sharing)}, expected 'disentangled': under another "
            "sharing the main table does not follow the auxiliary one"
        )
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    for name, table in zip(("main", "auxiliary"), _tables(model), strict=True):
        if id(table) not in held:
            raise MetroFastError(
                f"the optimizer does not update {name}.shared.weight: make it from the "
                "parameters of this model, after any resizing"
            )
    if is_followed(optimizer):
        raise MetroFastError(
            "the main table follows this optimizer already: call follow_auxiliary once, or "
            "remove() both of its handles first"
        )

"""Gradient-disentangled embedding sharing (DeBERTaV3, arXiv 2111.09543).

DeBERTaV3 gives the detecting model the table sg(E) + D: E is the generator's, whose gradient is
stopped there, and D a second table that starts at 0. Here the sum itself is the main model's table,
so that it is a plain T5 at any moment: after every update of E, the main table moves by the same
difference. The two are the same under an optimizer whose update of a weight depends only on its
gradients, such as AdamW without decay on embeddings, which `metro_fast` uses.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


def follow_auxiliary(model: Any, optimizer: Optimizer) -> tuple[RemovableHandle, RemovableHandle]:
    """Let the main table follow every step of an optimizer that updates the auxiliary table.

    `MetroTrainer` calls it; a loop of your own calls it once, after the optimizer is made.

    Args:
        model: `MetroForPretraining` with `embedding_sharing="disentangled"`.
        optimizer: Updates both tables.

    Returns:
        The handles of the two hooks; `remove()` ends the sharing.

    Example:
        >>> from metro_fast.metro import MetroConfig, MetroForPretraining
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, embedding_sharing="disentangled"))
        >>> handles = follow_auxiliary(model, torch.optim.AdamW(model.parameters()))
    """
    auxiliary, main = model.auxiliary.shared.weight, model.main.shared.weight
    before: list[Tensor] = []

    def keep(*_: object) -> None:
        before[:] = [auxiliary.detach().clone()]

    @torch.no_grad()
    def follow(*_: object) -> None:
        main.add_((auxiliary - before.pop()).to(main.dtype))

    return optimizer.register_step_pre_hook(keep), optimizer.register_step_post_hook(follow)

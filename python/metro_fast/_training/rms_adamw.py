"""AdamW whose steps are in proportion to the size of each tensor."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from metro_fast._ranges import check_fraction, check_not_negative


class RmsScaledAdamW(torch.optim.Optimizer):
    """AdamW whose learning rate is multiplied, per tensor, by its root mean square (RMS).

    With one rate for all tensors, AdamW moves the entries of every tensor by about that rate, so it
    is too fast for small weights or too slow for the N(0, 1) embedding of a T5. Adafactor's rate is
    relative to the size of a tensor, and nanoT5 showed that this factor is most of Adafactor's
    advantage over AdamW on a T5. This is nanoT5's `AdamWScale` (PiotrNawrot/nanoT5,
    `nanoT5/utils/copied_utils.py`; arXiv 2309.02373). For step t and gradient g:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        rate = lr * max(floor, RMS(p)) * sqrt(1 - beta2**t) / (1 - beta1**t)
        p = p - rate * m / (sqrt(v) + eps)
        p = p - lr * weight_decay * p

    The epsilon is inside the correction of the second moment, and the decay is not scaled: both are
    nanoT5's, and neither is torch's AdamW.

    Args:
        params: float32 or float64 parameters, or groups of them with their own `lr`,
            `weight_decay`, `betas`, `eps` or `floor`.
        lr: Rate relative to the RMS; nanoT5 uses 0.02.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Decay of the weights.
        floor: Smallest factor, so that a tensor of zeros can move.

    Raises:
        MetroFastError: If a number is outside its domain.

    Example:
        >>> weight = torch.nn.Parameter(torch.full((2,), 10.0))
        >>> optimizer = RmsScaledAdamW([weight], lr=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> weight.data.round(decimals=4)
        tensor([9., 9.])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        floor: float = 1e-3,
    ) -> None:
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay, floor=floor)
        check_fraction(beta1=betas[0], beta2=betas[1])
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "floor": floor,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss and its gradients again, or None.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moving:
                self._move(group, moving)
        return loss

    def _move(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Move the parameters of a group, each operation on all of them at once."""
        (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        states = [self._state_of(parameter) for parameter in parameters]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, gradients, alpha=1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)

        factors = torch._foreach_norm(parameters)
        torch._foreach_div_(factors, [math.sqrt(parameter.numel()) for parameter in parameters])
        torch._foreach_clamp_min_(factors, group["floor"])
        steps = [state["step"] for state in states]
        torch._foreach_mul_(
            factors, [-rate * math.sqrt(1 - beta2**step) / (1 - beta1**step) for step in steps]
        )

        updates = torch._foreach_sqrt(second)
        torch._foreach_add_(updates, group["eps"])
        updates = torch._foreach_div(first, updates)
        torch._foreach_mul_(updates, factors)
        torch._foreach_add_(parameters, updates)
        if decay:
            torch._foreach_mul_(parameters, 1 - rate * decay)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        """The state of a parameter, with the number of the step that is about to be taken."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        return state

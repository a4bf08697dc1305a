"""The auxiliary model over the steps of a run: trained, then frozen, or dropped."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from metro_fast.metro.objectives import MetroObjective


class AuxiliarySchedule(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Gives the step to the objective, and keeps a frozen auxiliary model exactly as it is.

    Args:
        objective: Decides what the auxiliary model does at a step.
    """

    def __init__(self, objective: MetroObjective) -> None:
        self._objective = objective

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the step that a resumed run begins with."""
        self._objective.step = state.global_step

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the step."""
        self._objective.step = state.global_step

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the gradients of a model that no longer learns, which are 0.

        A gradient of 0 would still move the weights, by the optimizer's momentum and decay; torch's
        optimizers leave a parameter without a gradient alone.
        """
        if self._objective.auxiliary != "trained":
            for parameter in own_parameters(kwargs["model"]):
                parameter.grad = None


def own_parameters(model: Any) -> list[nn.Parameter]:
    """The parameters of the auxiliary model and its head that are not the main model's too.

    Args:
        model: `MetroForPretraining`, wrapped or not.
    """
    metro = getattr(model, "module", model)
    shared = {id(parameter) for parameter in metro.main.parameters()}
    parts = (*metro.auxiliary.parameters(), *metro.mlm_head.parameters())
    return [parameter for parameter in parts if id(parameter) not in shared]

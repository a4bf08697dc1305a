"""The adapter of a model, which is overwritten with one set of weights after another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.scaling import Scalings, module_of
from metro_fast.experts.loading.adapt import adapt, peft_config
from metro_fast.experts.loading.checks import check_base, check_layers
from metro_fast.experts.loading.parameters import parameters_by_key
from metro_fast.experts.loading.undo import Undo

if TYPE_CHECKING:
    from peft import PeftModel


class Slots:
    """Parameters of a model's adapter, by the names that PEFT saves them under.

    A model without adapters gets a new one; in a PeftModel, the only active adapter is overwritten.

    Args:
        model: A transformers model or a PeftModel.
        config: The bytes of an adapter_config.json that fits the weights.
        shapes: The shapes of the weights, by name.
        undo: Receives the steps that restore the previous weights, or remove the new adapter,
            and restore training or evaluation mode.

    Attributes:
        model: The PeftModel, in evaluation mode.
        adapter_name: The name of the adapter that is overwritten.

    Raises:
        MissingExtraError: If peft is not installed.
        MetroFastError: If the weights do not fit the model, or its adapter is merged, disabled,
            scaled differently or not the only active one.
    """

    model: "PeftModel"

    def __init__(
        self,
        model: Any,
        config: bytes | None,
        shapes: Mapping[str, tuple[int, ...]],
        undo: Undo,
    ) -> None:
        peft = require("peft", "peft")
        self._torch = require("torch", "peft")
        check_base(model)
        undo.callback(_set_modes, [(m, m.training) for m in model.modules()])
        if isinstance(model, peft.PeftModel):
            self.model, fresh, old = model, False, list(model.parameters())
            active = list(model.active_adapters)
            if len(active) != 1:
                raise MetroFastError(
                    f"the active adapters are {active}, expected exactly one: call set_adapter()"
                )
            self.adapter_name = active[0]
        elif config is None:
            raise MetroFastError(
                "the experts have no adapter_config.json, so no adapter can be created for them: "
                "pass a PeftModel whose adapter has their names and shapes"
            )
        else:
            self.adapter_name, fresh = "default", True
            made = adapt(peft, model, peft_config(peft, config), shapes, "default", undo)
            self.model, old = made
        self._parameters = self._find(shapes)
        self._check_adapter(config, fresh)
        # A new adapter has some of them, too: with bias="all", the biases of the base.
        owned = {id(parameter) for parameter in old}
        kept = {n: p.detach().clone() for n, p in self._parameters.items() if id(p) in owned}
        undo.callback(self.write, kept)
        self.model.eval()

    def write(self, tensors: Mapping[str, Any]) -> None:
        """Copy weights into the adapter, which keeps its dtype and device.

        Args:
            tensors: torch tensors by name, of the shapes that were passed to the constructor.
        """
        with self._torch.no_grad():
            for name, tensor in tensors.items():
                self._parameters[name].copy_(tensor)

    def _find(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        found = parameters_by_key(self.model, self.adapter_name)
        for name in sorted(set(shapes) ^ set(found)):
            where = "the model's adapter" if name not in found else "the experts"
            raise MetroFastError(
                f"{where} lacks {name}: the experts must have been trained on this model, with an "
                "adapter of these modules"
            )
        for name, parameter in found.items():
            if tuple(parameter.shape) != shapes[name]:
                raise MetroFastError(
                    f"{name} has shape {shapes[name]} in the experts, {tuple(parameter.shape)} in "
                    "the model"
                )
            if parameter.is_meta or type(parameter.data).__name__ == "DTensor":
                raise MetroFastError(
                    f"{name} is sharded or offloaded, but all of it is needed here: put the model "
                    "on one device"
                )
        return found

    def _check_adapter(self, config: bytes | None, fresh: bool) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        check_layers(layers, self.adapter_name)
        if fresh or config is None:
            return
        scalings = Scalings(parse_config(config))
        base = self.model.get_base_model()
        for name in self._parameters:
            if ".lora_" not in name:
                continue
            ours = base.get_submodule(module_of(name)).scaling[self.adapter_name]
            theirs = scalings.scaling(module_of(name))
            if ours != theirs:
                raise MetroFastError(
                    f"{module_of(name)} is scaled by {ours:g} in the model, by {theirs:g} in the "
                    "experts: use an adapter with their lora_alpha, r and use_rslora"
                )


def _set_modes(modes: list[tuple[Any, bool]]) -> None:
    for module, training in modes:
        module.training = training

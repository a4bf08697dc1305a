"""The adapter of a model, to be filled with one set of weights after another."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.scaling import lora_scaling, module_of
from metro_fast.experts.loading.checks import check_layers, check_offload
from metro_fast.experts.loading.load import adapt, peft_config
from metro_fast.experts.loading.parameters import parameters_by_key


class Slots:
    """Parameters of a model's adapter, by the names that PEFT saves them under.

    A model without adapters gets one of the configuration; a PeftModel's only active adapter is
    written over.

    Args:
        model: A transformers model or a PeftModel.
        config: The bytes of an adapter_config.json that fits the weights to come.
        shapes: Of these weights, by name.
        undo: Gets what takes everything back: the weights that were there, or the new adapter; and
            train or evaluation mode.

    Attributes:
        model: The PeftModel, in evaluation mode.
        adapter_name: The adapter that is filled.

    Raises:
        MissingExtraError: If peft is not installed.
        MetroFastError: If the weights do not fit the model, or its adapter is merged, disabled,
            scaled differently or not the only active one.
    """

    def __init__(
        self,
        model: Any,
        config: bytes | None,
        shapes: Mapping[str, tuple[int, ...]],
        undo: ExitStack,
    ) -> None:
        peft = require("peft", "peft")
        self._torch = require("torch", "peft")
        undo.callback(_set_modes, [(m, m.training) for m in model.modules()])
        if isinstance(model, peft.PeftModel):
            self.model, fresh = model, False
            active = list(model.active_adapters)
            if len(active) != 1:
                raise MetroFastError(f"the active adapters are {active}, expected one alone")
            self.adapter_name = active[0]
        elif config is None:
            raise MetroFastError(
                "the experts have no adapter_config.json: pass a PeftModel whose adapter has their "
                "names and shapes"
            )
        else:
            self.adapter_name, fresh = "default", True
            try:
                self.model = adapt(peft, model, peft_config(peft, config), "default", undo)
            except ValueError as error:  # of PEFT: it finds none of the modules
                raise MetroFastError(f"the experts do not fit the model ({error})") from error
        self._parameters = self._find(shapes)
        self._check_adapter(config, fresh)
        if not fresh:
            before = {name: p.detach().clone() for name, p in self._parameters.items()}
            undo.callback(self.write, before)
        self.model.eval()

    def write(self, tensors: Mapping[str, Any]) -> None:
        """Put weights into the adapter, in its own dtype and on its device.

        Args:
            tensors: torch tensors by name, of the shapes that were told.
        """
        with self._torch.no_grad():
            for name, tensor in tensors.items():
                self._parameters[name].copy_(tensor)

    def _find(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        check_offload(self.model)
        found = parameters_by_key(self.model, self.adapter_name)
        for name in sorted(set(shapes) ^ set(found)):
            where = "the model's adapter" if name not in found else "the experts"
            raise MetroFastError(f"{where} lacks {name}: are they of this model and adapter?")
        for name, parameter in found.items():
            if tuple(parameter.shape) != shapes[name]:
                raise MetroFastError(
                    f"{name} has shape {shapes[name]} in the experts, {tuple(parameter.shape)} in "
                    "the model"
                )
            if parameter.is_meta or type(parameter.data).__name__ == "DTensor":
                raise MetroFastError(
                    f"{name} is not here as a whole (sharded or offloaded): put the model on one "
                    "device"
                )
        return found

    def _check_adapter(self, config: bytes | None, fresh: bool) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        check_layers(layers, self.adapter_name)
        if fresh or config is None:
            return
        fields = parse_config(config)
        base = self.model.get_base_model()
        for name in self._parameters:
            if ".lora_" not in name or "r" not in fields:
                continue
            held = base.get_submodule(module_of(name)).scaling[self.adapter_name]
            wanted = lora_scaling(fields, module_of(name))
            if held != wanted:
                raise MetroFastError(
                    f"{module_of(name)} is scaled by {held:g} in the model, by {wanted:g} in the "
                    "experts: use an adapter of their lora_alpha, r and use_rslora"
                )


def _set_modes(modes: list[tuple[Any, bool]]) -> None:
    for module, training in modes:
        module.training = training

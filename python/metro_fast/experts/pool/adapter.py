"""The adapter of a pool's model: its layers, its buffer, and what decodes into it."""

from dataclasses import dataclass
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import module_of
from metro_fast.experts.expert import Expert
from metro_fast.experts.loading.checks import check_layers
from metro_fast.experts.pool.arena import Arena
from metro_fast.experts.pool.decoder import Decoder, decoder_of


@dataclass(frozen=True)
class Adapter:
    """The adapter that a pool's first expert put into the model, and later ones overwrite.

    Attributes:
        name: Its name in the model.
        arena: The buffer behind its parameters.
        decoder: Decodes experts into the buffer.
        layers: PEFT's layers that hold it.
        scaling: The factor by which the model multiplies B A, by the name of B.
        config: The adapter_config.json of the first expert, parsed.
    """

    name: str
    arena: Arena
    decoder: Decoder
    layers: list[Any]
    scaling: dict[str, float]
    config: dict[str, Any]

    @classmethod
    def of(
        cls,
        adapted: Any,
        name: str,
        expert: Expert,
        config: dict[str, Any],
        num_threads: int | None,
        keep: str,
    ) -> "Adapter":
        """The adapter of a model into which an expert was just put.

        Args:
            adapted: The PeftModel.
            name: The adapter's name in it.
            expert: The expert.
            config: Its adapter_config.json, parsed.
            num_threads: Threads of a swap on the CPU.
            keep: On a GPU, where the packed bytes are kept.

        Raises:
            MetroFastError: If parameters cannot be overwritten in place, or `keep` is unknown.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        arena = Arena(adapted, name, expert.manifest)
        layers = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
        base = adapted.get_base_model()
        scaling = {
            tensor: base.get_submodule(module_of(tensor)).scaling[name]
            for tensor in arena.shapes
            if role_of(tensor) == "lora_B"
        }
        return cls(name, arena, decoder_of(arena, num_threads, keep), layers, scaling, config)

    def check(self) -> None:
        """Check the state of the model, which a user may have changed between two swaps.

        Raises:
            MetroFastError: If the adapter was merged, disabled, replaced, moved or set to be
                trained.
        """
        check_layers(self.layers, self.name)
        self.arena.check()
        if any(parameter.requires_grad for parameter in self.arena.parameters.values()):
            raise MetroFastError(
                "the adapter's parameters require gradients, and after a swap they would belong to "
                "another expert: call requires_grad_(False)"
            )

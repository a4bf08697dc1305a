"""Weights of LoRA factors: A and B each get the root, so that B A gets the weight once."""

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import factor_of
from metro_fast.experts.merging.fits import scalings_of
from metro_fast.experts.merging.members import Members


def scaling_of_tensors(packed: Members) -> NDArray[np.float64]:
    """The factor by which the module of each tensor multiplies B A: float64 [experts, tensors].

    It is 1 for tensors that are not factors of LoRA.
    """
    found = np.ones_like(packed.scales)
    for row, expert in zip(found, packed.experts, strict=True):
        if expert.manifest.kind == "lora":
            scalings = scalings_of(expert)
            for i, tensor in enumerate(expert.manifest.tensors):
                factor = factor_of(tensor.name)
                if factor is not None:
                    row[i] = scalings[factor.module]
    return found


def rooted(packed: Members, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of B A as factors of A and B: the root of the magnitude, and the sign with A.

    This is how PEFT weights factors (`LoraModel.add_weighted_adapter`).

    Args:
        packed: The experts.
        values: float64 [experts, tensors]; those of tensors that are not LoRA factors are returned
            as they are.
    """
    found = values.copy()
    for i, tensor in enumerate(packed.experts[0].manifest.tensors):
        factor = factor_of(tensor.name) if packed.experts[0].manifest.kind == "lora" else None
        if factor is not None:
            sign = np.where(values[:, i] < 0, -1.0, 1.0) if factor.role == "lora_A" else 1.0
            found[:, i] = np.sqrt(np.abs(values[:, i])) * sign
    return found


def factor_weights(packed: Members, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each expert's tensors in a merge that the scaling of the first applies to.

    Args:
        packed: The experts.
        weights: float64 [experts]: the weights of the updates.

    Returns:
        float64 [experts, tensors].

    Raises:
        MetroFastError: If the first expert scales a module by 0, so that no merge of its factors
            has an effect.
    """
    scalings = scaling_of_tensors(packed)
    zero = np.flatnonzero(scalings[0] == 0)
    if len(zero):
        name = packed.experts[0].manifest.tensors[zero[0]].name
        raise MetroFastError(
            f"the first expert scales the module of {name} by 0 (lora_alpha), and the result has "
            "its scaling: put another expert first, or use space='delta'"
        )
    return rooted(packed, weights[:, None] * scalings / scalings[0])

"""A task vector as plain tensors, and as the PEFT folder that any tool loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import constant_of, read_same_given
from metro_fast.experts.adapters.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS, write_folder
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import EXPERT_FILE


def plain_tensors(
    vector: TaskVector, initial: Mapping[str, Any] | str | Path | None = None
) -> dict[str, RawTensor]:
    """Initial values plus residuals, in the tensors' own dtypes, and the dense tensors.

    Args:
        vector: A task vector, for instance one that `compress(..., quantize="prune")` made.
        initial: The initial values that were taken off, if any were given.

    Returns:
        Tensors by name, in ascending order.

    Raises:
        MetroFastError: If initial values are missing, or are not those that were taken off.

    Example:
        >>> from metro_fast.experts import task_vector
        >>> vector = task_vector({"v.ia3_l": np.float32([1.5, 1.0])})
        >>> plain_tensors(vector)["v.ia3_l"].data
        array([1.5, 1. ], dtype=float32)
    """
    shapes = {n: r.values.shape for n, r in vector.residuals.items() if r.initial == "given"}
    state = read_initial(initial)
    given = read_same_given(state, shapes, vector.initial_crc32c, "the vector")
    tensors = dict(vector.dense)
    for name, residual in vector.residuals.items():
        start = given.get(name, constant_of(residual.initial))
        tensors[name] = RawTensor.rounded(np.asarray(start + residual.values), residual.dtype)
    return {name: tensors[name] for name in sorted(tensors)}


def save_plain(
    vector: TaskVector,
    folder: str | Path,
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> None:
    """Write a task vector as a plain PEFT folder.

    Args:
        vector: A task vector that was made of a PEFT adapter.
        folder: Made if it does not exist; each file is there whole or not at all.
        initial: The initial values that were taken off, if any were given.

    Raises:
        MetroFastError: If it is no PEFT adapter, or the folder holds an adapter already.
        OSError: If the folder cannot be written to.
    """
    if vector.config is None:
        raise MetroFastError("the vector has no adapter_config.json: save its tensors instead")
    folder = Path(folder)
    refuse_adapter(folder)
    write_folder(folder, plain_tensors(vector, initial), vector.config)


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder that an adapter lies in; ask before long work, not after it.

    Raises:
        MetroFastError: If one does; the message names the file.
    """
    for name in (EXPERT_FILE, WEIGHTS, PICKLED_WEIGHTS, CONFIG):
        if (folder / name).exists():
            raise MetroFastError(f"{folder} holds {name}: remove it or choose another folder")

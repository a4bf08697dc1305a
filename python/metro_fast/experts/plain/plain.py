"""Task vectors as plain tensors, and as PEFT folders that any tool loads."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast._atomic import checked_path
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import constant_of, read_same_given
from metro_fast.experts.adapters.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS, write_folder
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import EXPERT_FILE


def plain_tensors(
    vector: TaskVector, initial: Mapping[str, Any] | str | Path | None = None
) -> dict[str, RawTensor]:
    """Initial values plus residuals, in the tensors' own dtypes, and the dense tensors.

    Args:
        vector: A task vector, for instance from `compress(..., quantize="prune")`.
        initial: The initial values that were subtracted, if any were.

    Returns:
        Tensors by name, in ascending order.

    Raises:
        MetroFastError: If initial values are missing, or are not those that were subtracted.

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
    """Write a task vector, for instance a merge, as a plain PEFT folder or one safetensors file.

    Args:
        vector: A task vector.
        folder: Created if it does not exist; each file is written completely or not at all. A
            vector without a configuration, for instance a merge of files of kohya, is written to a
            path that ends in `.safetensors`, as a file.
        initial: The initial values that were subtracted, if any were.

    Raises:
        MetroFastError: If the vector has a configuration, which a file cannot hold, or none, which
            a folder needs; the target exists or contains an adapter already; or initial values are
            missing or not those that were subtracted.
        OSError: If the folder cannot be written to.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> from peft import LoraConfig, PeftModel, get_peft_model
        >>> from metro_fast.experts import compress, merge
        >>> def base():
        ...     return torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
        >>> experts = [compress(get_peft_model(base(), config), density=0.5) for _ in range(2)]
        >>> save_plain(merge(experts), "merged")
        >>> PeftModel.from_pretrained(base(), "merged").active_adapter
        'default'
    """
    save_plain_beside(vector, folder, initial, lambda temporary: None)


def save_plain_beside(
    vector: TaskVector,
    folder: str | Path,
    initial: Mapping[str, Any] | str | Path | None,
    more: Callable[[Path], object],
) -> None:
    """Save a vector as `save_plain` does and, as one with it, what a function writes.

    Args:
        vector: A task vector.
        folder: As for `save_plain`.
        initial: As for `save_plain`.
        more: Called with a folder, to which it writes more files; not called for a single file.

    Raises:
        MetroFastError: As for `save_plain`.
        OSError: If the folder cannot be written to.
    """
    folder = checked_path(folder)
    refuse_adapter(folder)
    if vector.config is not None and folder.suffix == ".safetensors":
        raise MetroFastError(
            f"{folder} is the name of a file, which cannot hold the adapter_config.json of the "
            "vector: choose a folder"
        )
    if vector.config is not None:
        write_folder(
            folder,
            plain_tensors(vector, initial),
            vector.config,
            vector.metadata,
            check=partial(refuse_adapter, folder, vector.config),
            more=more,
        )
    elif folder.suffix == ".safetensors":
        write_safetensors(folder, plain_tensors(vector, initial), vector.metadata)
    else:
        raise MetroFastError(
            "the vector has no adapter_config.json, which a PEFT folder needs: choose a target "
            "that ends in .safetensors"
        )


def refuse_adapter(folder: Path, config: bytes | None = None) -> None:
    """Check that a folder contains no adapter; to be called before long work, and after it.

    A path that ends in `.safetensors` stands for a file, which must not exist. A configuration
    alone is what a save that was killed leaves; it is the next save's if it is the same.

    Args:
        folder: The folder.
        config: The configuration that will be written, if it is known.

    Raises:
        MetroFastError: If it contains one; the message names the file.
    """
    if folder.suffix == ".safetensors" and folder.exists():
        raise MetroFastError(f"{folder} exists already: remove it or choose another name")
    for name in (EXPERT_FILE, WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).exists():
            raise MetroFastError(
                f"{folder} contains {name} already: remove it or choose another folder"
            )
    there = folder / CONFIG
    if config is not None and there.exists() and there.read_bytes() != config:
        raise MetroFastError(
            f"{folder} contains the {CONFIG} of another adapter already: remove it or choose "
            "another folder"
        )

"""Adapter folders as PEFT writes them."""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.tensors import RawTensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
_KINDS = {
    "LORA": "lora",
    "IA3": "ia3",
    "PROMPT_TUNING": "prompt",
    "PREFIX_TUNING": "prompt",
    "P_TUNING": "prompt",
}

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways of PEFT to initialize a LoRA that take B A off the base weights."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's weights and its configuration.

    Attributes:
        state: Weights by name.
        config: The bytes of adapter_config.json.
        kind: lora, ia3 or prompt.
    """

    state: dict[str, RawTensor]
    config: bytes
    kind: str


def read_folder(folder: Path) -> Adapter:
    """Read a PEFT folder: safetensors first, a pickle only by torch's `weights_only` reader.

    Raises:
        FileNotFoundError: If the folder, its configuration or its weights are missing.
        FormatError: If a file is damaged or is a pickle that does more than hold tensors.
        MetroFastError: If the adapter is of a kind that cannot be compressed.
    """
    config = (folder / CONFIG).read_bytes()
    kind = kind_of(parse_config(config))
    if (folder / WEIGHTS).exists():
        state = read_safetensors(folder / WEIGHTS)
    elif (folder / PICKLED_WEIGHTS).exists():
        state = _read_pickle(folder / PICKLED_WEIGHTS)
    else:
        raise FileNotFoundError(f"{folder} holds no {WEIGHTS} and no {PICKLED_WEIGHTS}")
    return Adapter(state, config, kind)


def read_model(model: Any, adapter_name: str = "default") -> Adapter:
    """Take the adapter out of a PeftModel, as its `save_pretrained` would write it.

    Raises:
        MetroFastError: If the model has no adapter of that name, or its kind cannot be compressed.
    """
    peft = require("peft", "peft")
    if adapter_name not in model.peft_config:
        names = ", ".join(model.peft_config)
        raise MetroFastError(f"the model has no adapter {adapter_name!r}, only {names}")
    # Not "auto", which asks the Hub whether the vocabulary was resized.
    state = peft.get_peft_model_state_dict(
        model, adapter_name=adapter_name, save_embedding_layers=False
    )
    with tempfile.TemporaryDirectory() as folder:
        config = model.peft_config[adapter_name]
        inference_mode, config.inference_mode = config.inference_mode, True
        try:
            config.save_pretrained(folder)
        finally:
            config.inference_mode = inference_mode
        raw = (Path(folder) / CONFIG).read_bytes()
    tensors = {name: RawTensor.of(tensor, name) for name, tensor in state.items()}
    return Adapter(tensors, raw, kind_of(parse_config(raw)))


def write_folder(folder: Path, state: Mapping[str, RawTensor], config: bytes) -> None:
    """Write a plain PEFT folder, each file whole or not at all.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        (name, tensor.dtype, list(tensor.shape), tensor.bytes) for name, tensor in state.items()
    ]
    _core.write_file(folder / WEIGHTS, _core.encode_safetensors(entries))
    _core.write_file(folder / CONFIG, np.frombuffer(config, np.uint8))


def parse_config(config: bytes) -> dict[str, Any]:
    """Parse adapter_config.json.

    Raises:
        FormatError: If it is not a JSON object.
    """
    fields = parse_json(config, CONFIG)
    if not isinstance(fields, dict):
        raise FormatError(f"{CONFIG} holds a {type(fields).__name__}, expected an object")
    return fields


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of an adapter, from its configuration.

    Raises:
        MetroFastError: If it is of a kind that cannot be compressed; the message names it.
    """
    peft_type = str(config.get("peft_type", "missing")).rpartition(".")[2].upper()
    if peft_type not in _KINDS:
        known = ", ".join(_KINDS)
        raise MetroFastError(f"peft_type is {peft_type}, which cannot be compressed, only {known}")
    if config.get("use_dora"):
        raise MetroFastError("use_dora is set: DoRA cannot be compressed, only plain LoRA")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
        raise MetroFastError(
            f"init_lora_weights is {start!r}: its base was changed when the adapter was made, so "
            "what compression drops would be missing from both; convert it first, where PEFT can: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise MetroFastError(
            f"bias is {config.get('bias')!r}, lora_bias {config.get('lora_bias')!r}: adapters with "
            "trained biases cannot be compressed"
        )
    return _KINDS[peft_type]


def read_safetensors(path: Path) -> dict[str, RawTensor]:
    """Read a safetensors file, checked by the safetensors crate.

    Raises:
        FormatError: If it is damaged, a Git LFS pointer, or something else.
    """
    file = read_bytes(path)
    try:
        places = _core.decode_safetensors(file)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return {
        name: RawTensor.from_bytes(dtype, tuple(shape), file[start:end])
        for name, dtype, shape, start, end in places
    }


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """A whole file, read and not mapped: a file cut under a map kills the process."""
    return np.fromfile(path, np.uint8)


def _read_pickle(path: Path) -> dict[str, RawTensor]:
    torch = require("torch", "peft")
    import pickle

    try:
        state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(f"{path} is not a pickle of tensors alone: {reason}") from error
    if not isinstance(state, dict):
        raise FormatError(f"{path} holds a {type(state).__name__}, expected a state dict")
    return {name: RawTensor.of(tensor, name) for name, tensor in state.items()}

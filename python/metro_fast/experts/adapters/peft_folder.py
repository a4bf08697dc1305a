"""Adapter folders as PEFT writes them."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast import _core
from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.state_file import read_pickle, read_safetensors, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
EXPERT_FILE = "adapter_model.compeft.safetensors"
"""The weights of a compressed expert; PEFT does not know the name and must not load the file."""
_KINDS = {
    "LORA": "lora",
    "IA3": "ia3",
    "PROMPT_TUNING": "prompt",
    "PREFIX_TUNING": "prompt",
    "P_TUNING": "prompt",
}

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""PEFT's ways of initializing a LoRA that subtract B A from the base weights."""

_REFUSED = {
    "use_bdlora": "block-diagonal LoRA cannot be compressed, only plain LoRA",
    "kasa_config": "KaSA changes the base weights, so it cannot be compressed",
    "monteclora_config": "MonteCLoRA cannot be compressed, only plain LoRA",
    "target_parameters": "LoRA on bare parameters (one A and B for many experts of a mixture) "
    "cannot be compressed, only LoRA on modules",
}
"""Settings under which the weights are more than a module's A and B, or mean something else. rsLoRA
and the patterns of rank and alpha are allowed: the configuration is kept byte for byte."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's weights and its configuration.

    Attributes:
        state: Weights by name.
        config: The bytes of adapter_config.json.
        kind: lora, ia3 or prompt.

    Example:
        >>> Adapter({}, b"{}", "lora")
        Adapter(lora, 0 tensors)
    """

    state: dict[str, RawTensor]
    config: bytes
    kind: str

    def __repr__(self) -> str:
        return f"Adapter({self.kind}, {len(self.state)} tensors)"


def read_folder(folder: Path) -> Adapter:
    """Read a PEFT folder; safetensors are preferred, and pickles are read with `weights_only`.

    Raises:
        FileNotFoundError: If the folder, its configuration or its weights are missing.
        FormatError: If a file is damaged, or is a pickle with more than tensors in it.
        MetroFastError: If the adapter is of a kind that cannot be compressed.
    """
    config = (folder / CONFIG).read_bytes()
    kind = kind_of(parse_config(config))
    if (folder / WEIGHTS).exists():
        state = read_safetensors(folder / WEIGHTS)
    elif (folder / PICKLED_WEIGHTS).exists():
        state = read_pickle(folder / PICKLED_WEIGHTS)
    else:
        raise FileNotFoundError(f"{folder} holds no {WEIGHTS} and no {PICKLED_WEIGHTS}")
    return Adapter(state, config, kind)


def read_model(model: Any, adapter_name: str = "default") -> Adapter:
    """Copy the adapter of a PeftModel, as its `save_pretrained` would write it.

    Raises:
        MetroFastError: If the model has no adapter of that name, or its kind cannot be compressed.
    """
    peft = require("peft", "peft")
    if adapter_name not in model.peft_config:
        names = ", ".join(model.peft_config)
        raise MetroFastError(f"the model has no adapter {adapter_name!r}, only {names}")
    # The default, "auto", asks the Hub whether the vocabulary was resized.
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
    """Write a plain PEFT folder; each file is written whole or not at all.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS, state)
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
    """The kind of an adapter, according to its configuration.

    Raises:
        MetroFastError: If it is of a kind that cannot be compressed; the message names it.
    """
    peft_type = str(config.get("peft_type", "missing")).rpartition(".")[2].upper()
    if peft_type not in _KINDS:
        known = ", ".join(_KINDS)
        raise MetroFastError(f"peft_type is {peft_type}, which cannot be compressed, only {known}")
    for setting, reason in _REFUSED.items():
        if config.get(setting):
            raise MetroFastError(f"{setting} is set: {reason}")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
        raise MetroFastError(
            f"init_lora_weights is {start!r}: the base was changed when the adapter was made, so "
            "whatever compression drops would be missing from both. Convert the adapter first, "
            "where PEFT can: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    return _KINDS[peft_type]

"""Second, slow readings of a PEFT folder: the updates that each server of LoRA adds to a base.

Each follows the server's own source, which docs/serving.md names, and reads of adapter_config.json
only the fields that the server reads.
"""

import json
import math
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors.torch import load_file

Deltas = dict[str, torch.Tensor]


def _read(folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    return config, {name: tensor.double() for name, tensor in tensors.items()}


def vllm(folder: Path, modules: Collection[str]) -> Deltas:
    """PEFTHelper reads r, lora_alpha and use_rslora; names come from the tensors alone."""
    config, tensors = _read(folder)
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    assert config["bias"] == "none"
    root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    found = {}
    for name, a in tensors.items():
        *module, kind, last = name.removeprefix("base_model.model.").split(".")
        assert (kind, last) in (("lora_A", "weight"), ("lora_B", "weight")), name
        assert min(a.shape) <= config["r"]  # slots of memory have the rank of the configuration
        if kind == "lora_A":
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            found[".".join(module)] = config["lora_alpha"] / root * (b @ a)
    return found


def sglang(folder: Path, modules: Collection[str]) -> Deltas:
    """LoRAAdapter.scaling is lora_alpha / r; buffers have r rows, and target_modules is a list."""
    config, tensors = _read(folder)
    assert isinstance(config["target_modules"], list)
    targets = {name.split(".")[-1] for name in config["target_modules"]}
    found = {}
    for module in modules:
        a = tensors.get(f"base_model.model.{module}.lora_A.weight")
        if a is None or module.split(".")[-1] not in targets:
            continue
        b = tensors[f"base_model.model.{module}.lora_B.weight"]
        assert a.shape[0] == b.shape[1] == config["r"]
        found[module] = config["lora_alpha"] / config["r"] * (b @ a)
    return found


def lorax(folder: Path, modules: Collection[str]) -> Deltas:
    """One kind of module after the other; a kind is left out if a layer lacks it, and the factors
    of a kind are stacked. After the first kind, r is the rank to which that was padded."""
    config, tensors = _read(folder)
    rank = config["r"]
    kinds: dict[str, list[str]] = {}
    for module in modules:
        kinds.setdefault(module.split(".")[-1], []).append(module)
    found = {}
    for members in kinds.values():
        prefixes = [f"base_model.model.{module}" for module in members]
        if not all(f"{prefix}.lora_A.weight" in tensors for prefix in prefixes):
            continue
        root = math.sqrt(rank) if config.get("use_rslora") else rank
        a = torch.stack([tensors[f"{prefix}.lora_A.weight"] for prefix in prefixes])
        b = torch.stack([tensors[f"{prefix}.lora_B.weight"] for prefix in prefixes])
        for i, module in enumerate(members):
            found[module] = config["lora_alpha"] / root * (b[i] @ a[i])
        own = a.shape[1]
        rank = 8 if own <= 8 else (own + 15) // 16 * 16
    return found


def llama_cpp(folder: Path, modules: Collection[str]) -> Deltas:
    """The converter keeps lora_alpha alone; r is the rank of each pair of factors."""
    config, tensors = _read(folder)
    found = {}
    for name, a in tensors.items():
        if ".lora_A.weight" in name:
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            module = name.replace("base_model.model.", "").replace(".lora_A.weight", "")
            found[module] = config["lora_alpha"] / a.shape[0] * (b @ a)
    return found


READERS: dict[str, Callable[[Path, Collection[str]], Deltas]] = {
    "vllm": vllm,
    "sglang": sglang,
    "lorax and tgi": lorax,
    "llama.cpp": llama_cpp,
}

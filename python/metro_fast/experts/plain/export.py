"""Plain PEFT folders of compressed experts, for servers that load nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_folder as write_whole_folder
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config, write_folder
from metro_fast.experts.expert import Expert, read_expert


def export(
    experts: Mapping[str, Expert | str | Path], target: str | Path, *, dtype: Any = None
) -> list[Path]:
    """Write each expert as a folder that vLLM, SGLang and LoRAX load.

    Args:
        experts: Experts, their paths or `hf://` names, by the names that their folders get.
        target: Where the folders go; made if it does not exist.
        dtype: float32, float16 or bfloat16 for all weights; their own by default. Servers convert
            to the base model's, so bfloat16 loses nothing there and halves the bytes.

    Returns:
        The folders. Each is there whole or not at all.

    Raises:
        TypeError: If one is no expert, or the dtype is no float.
        MetroFastError: If a name is no file name or taken, or an expert is no LoRA with a base
            model's name, which is what those servers load.

    Example:
        >>> export({"math": "expert-math"}, "served")  # doctest: +SKIP
        [PosixPath('served/math')]
    """
    target = Path(target)
    found = {name: read_expert(source) for name, source in experts.items()}
    for name, expert in found.items():
        check_name(name)
        _check_served(name, expert)
        if (target / name).exists():
            raise MetroFastError(f"{target / name} is there already: remove it or use another name")
    target.mkdir(parents=True, exist_ok=True)
    return [write_plain(expert, target / name, dtype) for name, expert in found.items()]


def write_plain(expert: Expert, folder: Path, dtype: Any = None) -> Path:
    """Write one expert as a plain folder, which appears whole: a server may be looking.

    Args:
        expert: An expert with an adapter_config.json.
        folder: The folder, which must not exist.
        dtype: As `export`.
    """
    config = expert.config
    assert config is not None
    return write_whole_folder(
        folder, lambda temporary: write_folder(temporary, expert.raw(dtype), config)
    )


def check_name(name: str) -> None:
    """Refuse names that would leave the folder they are put into.

    Raises:
        MetroFastError: If it is empty, hidden, or has a separator.
    """
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name:
        raise MetroFastError(f"the name {name!r} is no name of a folder")


def _check_served(name: str, expert: Expert) -> None:
    if expert.config is None:
        raise MetroFastError(f"{name} has no {CONFIG}: servers load PEFT adapters")
    config = parse_config(expert.config)
    kind = kind_of(config)
    if kind != "lora":
        raise MetroFastError(f"{name} is of kind {kind!r}: servers load LoRA alone")
    if not config.get("base_model_name_or_path"):
        raise MetroFastError(f"the {CONFIG} of {name} names no base_model_name_or_path")
    if expert.dense:
        head = next(iter(expert.dense))
        raise MetroFastError(f"{name} has dense tensors ({head}), which servers do not load")

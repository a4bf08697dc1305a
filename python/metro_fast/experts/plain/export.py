"""Export of compressed experts as plain PEFT folders, for servers that load only those."""

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
        target: Folder in which the folders are written; created if it does not exist.
        dtype: float32, float16 or bfloat16 for all weights; their own dtypes by default. Servers
            convert weights to the dtype of the base model, so for a bfloat16 model bfloat16
            loses nothing and halves the bytes.

    Returns:
        The folders. Each is written completely or not at all.

    Raises:
        TypeError: If a source is not an expert or a path, or the dtype is not a float.
        MetroFastError: If a name cannot be the name of a folder or is taken, or an expert cannot
            be served: it must be a LoRA, without dense tensors, that names its base model.

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
            raise MetroFastError(f"{target / name} exists already: remove it or use another name")
    target.mkdir(parents=True, exist_ok=True)
    return [write_plain(expert, target / name, dtype) for name, expert in found.items()]


def write_plain(expert: Expert, folder: Path, dtype: Any = None) -> Path:
    """Write one expert as a plain folder that appears complete, since a server may be watching.

    Args:
        expert: An expert with an adapter_config.json.
        folder: The folder, which must not exist.
        dtype: As for `export`.
    """
    config = expert.config
    assert config is not None
    return write_whole_folder(
        folder,
        lambda temporary: write_folder(temporary, expert.raw(dtype), config, expert.metadata),
    )


def check_name(name: str) -> None:
    """Check that a name is that of a folder inside the folder it is joined to.

    Raises:
        MetroFastError: If it is empty, hidden, or has a separator.
    """
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name:
        raise MetroFastError(
            f"the name {name!r} cannot be the name of a folder: it must not be empty, begin with a "
            "dot or contain a separator"
        )


def _check_served(name: str, expert: Expert) -> None:
    if expert.config is None:
        raise MetroFastError(f"{name} has no {CONFIG}, and servers only load PEFT adapters")
    config = parse_config(expert.config)
    kind = kind_of(config)
    if kind != "lora":
        raise MetroFastError(f"{name} has kind {kind!r}, and servers only load LoRA")
    if not config.get("base_model_name_or_path"):
        raise MetroFastError(
            f"the {CONFIG} of {name} has no base_model_name_or_path, which servers need: add it"
        )
    if expert.dense:
        head = next(iter(expert.dense))
        raise MetroFastError(f"{name} has dense tensors ({head}), which servers do not load")

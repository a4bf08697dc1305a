"""From a compressed expert to what any tool loads: a plain PEFT folder, or a safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS, write_folder
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import EXPERT_FILE, Expert, read_expert


def decompress(
    source: Expert | str | Path,
    target: str | Path,
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
    num_threads: int | None = None,
) -> None:
    """Write an expert as a plain PEFT folder, or as one safetensors file.

    Args:
        source: An expert, the path of its folder, or its name on the Hub (`hf://owner/name`).
        target: Folder to write, made if it does not exist; each file is there whole or not at all.
            A name that ends in `.safetensors` is a file instead, which needs no configuration.
        initial: The initial values that were given to `compress`, if any were, or their path.
        num_threads: Threads to use; the machine's cores by default.

    Raises:
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If a folder is asked for and it is no PEFT adapter, the target is there
            already, or initial values are missing or not those of `compress`.
        OSError: If the target cannot be written to.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> prompt = {"prompt_embeddings": np.arange(32, dtype=np.float32).reshape(4, 8)}
        >>> decompress(compress(prompt), "prompt.safetensors")
        >>> compress("prompt.safetensors").manifest.kind
        'prompt'
    """
    expert = read_expert(source)
    target = Path(target)
    values = read_initial(initial)
    given = None if values is None else dict(values)
    if target.suffix == ".safetensors":
        if target.exists():
            raise MetroFastError(f"{target} is there: remove it or choose another name")
        write_safetensors(target, expert.raw(initial=given, num_threads=num_threads))
        return
    if expert.config is None:
        raise MetroFastError(
            "the expert has no adapter_config.json: write it to a .safetensors file, or use its "
            "state_dict() instead"
        )
    for name in (EXPERT_FILE, WEIGHTS, PICKLED_WEIGHTS):
        if (target / name).exists():
            raise MetroFastError(f"{target} holds {name}: remove it or choose another folder")
    config = target / CONFIG
    if config.exists() and config.read_bytes() != expert.config:
        raise MetroFastError(f"{target} holds another {CONFIG}: choose another folder")
    write_folder(target, expert.raw(initial=given, num_threads=num_threads), expert.config)

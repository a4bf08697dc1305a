"""Decompression of an expert into a plain PEFT folder or a file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from metro_fast._atomic import checked_path
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_forms import FORMS, write_form
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.plain.plain import refuse_adapter


def decompress(
    source: Expert | str | Path,
    target: str | Path,
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
    num_threads: int | None = None,
) -> None:
    """Write an expert in the form that it came from: a plain PEFT folder, or one file.

    The file carries the metadata that the source of the expert carried (`Expert.metadata`).

    Args:
        source: An expert, the path of its folder, or its name on the Hub (`hf://owner/name`).
        target: Folder to write, created if it does not exist; each file is written completely or
            not at all. A path that ends in `.safetensors`, `.npy` (one tensor), `.npz`, `.bin`,
            `.pt`, `.pth` or `.ckpt` is written as such a file instead, which needs no
            configuration.
        initial: The initial values that were given to `compress`, if any were, or their path.
        num_threads: Threads to use; the machine's cores by default.

    Raises:
        TypeError: If the source is not an expert or a path.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If a folder is requested for an expert without an adapter_config.json, the
            target exists already, its form cannot hold the tensors (bfloat16 in numpy's) or their
            metadata, or initial values are missing or not those of `compress`.
        OSError: If the target cannot be written to.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> prompt = {"prompt_embeddings": np.arange(32, dtype=np.float32).reshape(4, 8)}
        >>> decompress(compress(prompt), "prompt.npy")
        >>> compress("prompt.npy").manifest.kind
        'prompt'
    """
    target = checked_path(target)
    expert = read_expert(source)
    values = read_initial(initial)
    given = None if values is None else dict(values)
    if target.suffix in FORMS:
        if target.exists():
            raise MetroFastError(f"{target} exists already: remove it or choose another name")
        raw = expert.raw(initial=given, num_threads=num_threads)
        write_form(target, raw, expert.metadata)
        return
    if expert.config is None:
        raise MetroFastError(
            "the expert has no adapter_config.json, which a PEFT folder needs: choose a target "
            f"that ends in {', '.join(FORMS[:-1])} or {FORMS[-1]}"
        )
    check = partial(refuse_adapter, target, expert.config)
    check()
    raw = expert.raw(initial=given, num_threads=num_threads)
    write_folder(target, raw, expert.config, expert.metadata, check=check)

"""Export of compressed experts as plain PEFT folders, for servers that load only those."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast._atomic import checked_path, write_folder
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, WEIGHTS, write_files
from metro_fast.experts.adapters.state_file import encoded
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.plain.served import Plan, plan, served

LONGEST_NAME = 160
"""Most bytes of the name of an expert. File systems allow 255, of which a version (33) and the end
of a temporary folder's name (14) take some, and `Shelf` reads the name from either."""


def export(
    experts: Mapping[str, Expert | str | Path], target: str | Path, *, dtype: Any = None
) -> list[Path]:
    """Write each expert as a folder that vLLM, SGLang, LoRAX, TGI and llama.cpp load.

    They read `lora_alpha` and `r`, but not the patterns, and some not `use_rslora`. So all modules
    get one rank (8 or a multiple of 16, with zeros) and one scaling, by which B is multiplied where
    the expert's own differ. Stock PEFT reads the same update from the folder. What they do not
    read at all (aLoRA, DoRA, biases, heads) is refused by name.

    Args:
        experts: Experts, their paths or `hf://` names, by the names that their folders get.
        target: Folder in which the folders are written; created if it does not exist.
        dtype: float32, float16 or bfloat16 for all weights; their own dtypes by default. Servers
            convert weights to the dtype of the base model, so for a bfloat16 model bfloat16
            loses nothing and halves the bytes.

    Returns:
        The folders. Each is written completely or not at all, and one that is there already with
        the same bytes is kept.

    Raises:
        TypeError: If a source is not an expert or a path, or the dtype is not a float.
        FormatError: If an expert is damaged, or its configuration has no usable r or lora_alpha.
        MetroFastError: If a name cannot be the name of a folder or is taken, or an expert cannot
            be served: it must be a LoRA, without dense tensors or settings that servers do not
            read, that names its base model.

    Warns:
        UserWarning: If some of the servers leave out a part of an expert, for instance embeddings.

    Example:
        >>> export({"math": "expert-math"}, "served")  # doctest: +SKIP
        [PosixPath('served/math')]
    """
    target = checked_path(target)
    found = {name: read_expert(source) for name, source in experts.items()}
    plans = {}
    for name, expert in found.items():
        check_name(name)
        plans[name] = plan(name, expert)
        if (target / name).exists() and not _is_written(expert, plans[name], target / name, dtype):
            raise MetroFastError(f"{target / name} exists already: remove it or use another name")
    target.mkdir(parents=True, exist_ok=True)
    for name, expert in found.items():
        if not (target / name).exists():
            write_plain(expert, plans[name], target / name, dtype)
    return [target / name for name in found]


def _is_written(expert: Expert, planned: Plan, folder: Path, dtype: Any) -> bool:
    """Whether a folder is what this export writes: one that was killed later on has left it."""
    files = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    if set(files) != {CONFIG, WEIGHTS} or files[CONFIG].read_bytes() != planned.config:
        return False
    weights = encoded(served(expert, planned, dtype), expert.metadata)
    return files[WEIGHTS].read_bytes() == weights.tobytes()


def write_plain(expert: Expert, planned: Plan, folder: Path, dtype: Any = None) -> Path:
    """Write one expert as a plain folder that appears complete, since a server may be watching.

    Args:
        expert: The expert.
        planned: What `plan` returned for it.
        folder: The folder, which must not exist.
        dtype: As for `export`.

    Raises:
        MetroFastError: If a B that has to be scaled does not fit the dtype.
    """
    tensors = served(expert, planned, dtype)
    return write_folder(
        folder,
        lambda temporary: write_files(temporary, tensors, planned.config, expert.metadata),
    )


def check_name(name: str) -> None:
    """Check that a name is that of a folder inside the folder it is joined to.

    Raises:
        MetroFastError: If it is empty, hidden or long, or has a separator or a character that
            cannot be printed.
    """
    if (
        not name
        or name != Path(name).name
        or name.startswith(".")
        or "\\" in name
        or not name.isprintable()
    ):
        raise MetroFastError(
            f"the name {shown(repr(name))} cannot be the name of a folder: it must not be empty, "
            "begin with a dot, or contain a separator or a character that cannot be printed"
        )
    size = len(name.encode())
    if size > LONGEST_NAME:
        raise MetroFastError(
            f"the name {shown(repr(name))} has {size:,} bytes, expected at most {LONGEST_NAME}, "
            "which with a version and an ending is what file systems hold"
        )

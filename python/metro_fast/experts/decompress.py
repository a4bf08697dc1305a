"""From a compressed expert to a plain PEFT folder."""

from pathlib import Path

from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS, write_folder


def decompress(
    source: Expert | str | Path, target: str | Path, *, num_threads: int | None = None
) -> None:
    """Write an expert as a plain PEFT folder, which any tool loads.

    Args:
        source: An expert, or the path of its folder.
        target: Folder to write, made if it does not exist; each file is there whole or not at all.
        num_threads: Threads to use; the machine's cores by default.

    Raises:
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it is no PEFT adapter, or the target holds an adapter already.
        OSError: If the target cannot be written to.

    Example:
        >>> decompress("expert-small", "expert-plain")  # doctest: +SKIP
    """
    expert = source if isinstance(source, Expert) else Expert.load(source)
    if expert.config is None:
        raise MetroFastError("the expert has no adapter_config.json: use its state_dict() instead")
    target = Path(target)
    for name in (EXPERT_FILE, WEIGHTS, PICKLED_WEIGHTS):
        if (target / name).exists():
            raise MetroFastError(f"{target} holds {name}: remove it or choose another folder")
    config = target / CONFIG
    if config.exists() and config.read_bytes() != expert.config:
        raise MetroFastError(f"{target} holds another {CONFIG}: choose another folder")
    write_folder(target, expert.raw(num_threads=num_threads), expert.config)

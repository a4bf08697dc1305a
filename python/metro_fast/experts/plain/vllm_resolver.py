"""A resolver for vLLM that finds compressed experts by the names in requests.

vLLM finds `register` by its entry point (group `vllm.general_plugins`). Set `METRO_FAST_EXPERTS` to
a folder of experts and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=true`. A request for the model `NAME` is
then served with the expert `$METRO_FAST_EXPERTS/NAME`, which is decompressed once into
`$METRO_FAST_EXPERTS_PLAIN` (by default a folder in /dev/shm, which is memory).
"""

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, parse_config
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.plain.export import check_name, write_plain
from metro_fast.experts.plain.served import plan

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver


def register() -> None:
    """Register the resolver with vLLM; this does nothing if `METRO_FAST_EXPERTS` is not set."""
    folder = os.environ.get("METRO_FAST_EXPERTS")
    if not folder:
        return
    from vllm.lora.resolver import LoRAResolverRegistry

    plain = os.environ.get("METRO_FAST_EXPERTS_PLAIN", "/dev/shm/metro_fast_experts")
    LoRAResolverRegistry.register_resolver("metro_fast", make_resolver(Path(folder), Path(plain)))


def make_resolver(folder: Path, plain: Path) -> "LoRAResolver":
    """A `LoRAResolver` of vLLM over a folder of experts.

    Args:
        folder: Folder with one expert folder per name.
        plain: Folder in which plain folders are written, one per version of an expert's bytes.
    """
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    class ExpertResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> "LoRARequest | None":
            found = expand(folder, plain, base_model_name, lora_name)
            if found is None:
                return None
            number = zlib.crc32(found.name.encode()) or 1
            return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(found))

    return ExpertResolver()


def expand(folder: Path, plain: Path, base_model: str, name: str) -> Path | None:
    """The plain folder of an expert, or None if the base model has no expert of that name.

    Args:
        folder: Folder with one expert folder per name.
        plain: Folder in which plain folders are written.
        base_model: The base model's name in adapter_config.json; experts of other base models are
            not served.
        name: The name in a request, which may be any string.

    Raises:
        FormatError: If the expert is damaged.
        MetroFastError: If vLLM would not add what PEFT adds, for instance for DoRA.
    """
    try:
        check_name(name)
    except MetroFastError:  # It cannot name a folder, but another resolver may know it.
        return None
    if not (folder / name / EXPERT_FILE).is_file():
        return None
    expert = Expert.load(folder / name)
    if expert.config is None:
        return None
    config = parse_config(expert.config)
    if config.get("peft_type") != "LORA" or config.get("base_model_name_or_path") != base_model:
        return None
    planned = plan(name, expert)
    # Of what is written, not of its source, which another release may write otherwise.
    version = zlib.crc32(planned.config, zlib.crc32(expert.file.tobytes()))
    target = plain / f"{name}-{version:08x}"
    if not (target / CONFIG).exists():
        plain.mkdir(parents=True, exist_ok=True)
        try:
            write_plain(expert, planned, target)
        except OSError:
            # If another process was first, its folder is complete.
            if not (target / CONFIG).exists():
                raise
    return target

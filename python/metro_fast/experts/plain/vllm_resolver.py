"""Compressed experts in vLLM: resolved by name when a request asks for one.

vLLM finds `register` by its entry point (group `vllm.general_plugins`). Set `METRO_FAST_EXPERTS` to
a folder of experts and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=true`; a request for the model `NAME` is
then served with the expert `$METRO_FAST_EXPERTS/NAME`, expanded once into
`$METRO_FAST_EXPERTS_PLAIN` (by default a folder in /dev/shm, which is memory).
"""

import os
import zlib
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, parse_config
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.plain.export import check_name, write_plain


def register() -> None:
    """Register the resolver with vLLM; does nothing without `METRO_FAST_EXPERTS`."""
    folder = os.environ.get("METRO_FAST_EXPERTS")
    if not folder:
        return
    from vllm.lora.resolver import LoRAResolverRegistry

    plain = os.environ.get("METRO_FAST_EXPERTS_PLAIN", "/dev/shm/metro_fast_experts")
    LoRAResolverRegistry.register_resolver("metro_fast", make_resolver(Path(folder), Path(plain)))


def make_resolver(folder: Path, plain: Path) -> Any:
    """A `LoRAResolver` of vLLM over a folder of experts.

    Args:
        folder: Holds an expert's folder for each name.
        plain: Where plain folders are written, one for each version of an expert's bytes.
    """
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    class ExpertResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            found = expand(folder, plain, base_model_name, lora_name)
            if found is None:
                return None
            number = zlib.crc32(found.name.encode()) or 1
            return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(found))

    return ExpertResolver()


def expand(folder: Path, plain: Path, base_model: str, name: str) -> Path | None:
    """The plain folder of an expert of a base model, or None if there is none of that name.

    Args:
        folder: Holds an expert's folder for each name.
        plain: Where plain folders are written.
        base_model: As adapter_config.json names it; experts of other models are not served.
        name: As a request spells it: it may be anything.

    Raises:
        FormatError: If the expert is damaged.
    """
    try:
        check_name(name)
    except MetroFastError:  # a request for no folder at all: another resolver may know it
        return None
    if not (folder / name / EXPERT_FILE).is_file():
        return None
    expert = Expert.load(folder / name)
    if expert.config is None:
        return None
    config = parse_config(expert.config)
    if config.get("peft_type") != "LORA" or config.get("base_model_name_or_path") != base_model:
        return None
    version = zlib.crc32(expert.config, zlib.crc32(expert.file.tobytes()))
    target = plain / f"{name}-{version:08x}"
    if not (target / CONFIG).exists():
        plain.mkdir(parents=True, exist_ok=True)
        try:
            write_plain(expert, target)
        except OSError:
            # Another process was first: its folder appeared whole.
            if not (target / CONFIG).exists():
                raise
    return target

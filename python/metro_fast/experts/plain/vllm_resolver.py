"""A resolver for vLLM that finds compressed experts by the names in requests.

vLLM finds `register` by its entry point (group `vllm.general_plugins`). Set `METRO_FAST_EXPERTS` to
a folder of experts and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=true`. A request for the model `NAME` is
then served with the expert `$METRO_FAST_EXPERTS/NAME`, which is decompressed once into
`$METRO_FAST_EXPERTS_PLAIN` (by default a folder of the user's in /dev/shm, which is memory).
"""

import asyncio
import hashlib
import itertools
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from metro_fast._environment import chosen_folder
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.plain.export import check_name, write_plain
from metro_fast.experts.plain.served import plan
from metro_fast.experts.plain.shelf import Shelf

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

_PLAIN = "METRO_FAST_EXPERTS_PLAIN"
_FIRST_ID = 1 << 30
"""vLLM's own adapters count from 1, and older versions keep ids in 32 bits."""

_log = logging.getLogger(__name__)
_ids: dict[str, int] = {}
_numbers = itertools.count(_FIRST_ID)
_guard = threading.Lock()


def register() -> None:
    """Register the resolver with vLLM; this does nothing if `METRO_FAST_EXPERTS` is not set.

    Raises:
        MetroFastError: If a variable does not name a folder, or another user could write to the
            one for plain experts.
    """
    folder = chosen_folder("METRO_FAST_EXPERTS", exists=True)
    if folder is None:
        return
    from vllm.lora.resolver import LoRAResolverRegistry

    plain = chosen_folder(_PLAIN) or default_folder()
    LoRAResolverRegistry.register_resolver("metro_fast", make_resolver(folder, plain))


def default_folder() -> Path:
    """The folder for plain experts if none is chosen: one for each user, in memory."""
    return Path(f"/dev/shm/metro_fast_experts-{os.geteuid()}")


def make_resolver(folder: Path, plain: Path) -> "LoRAResolver":
    """A `LoRAResolver` of vLLM over a folder of experts.

    Args:
        folder: Folder with one expert folder per name.
        plain: Folder in which plain folders are written, one per version of an expert's bytes.
            Only this user may be able to write to it.
    """
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    shelf = Shelf(plain, _PLAIN)

    class ExpertResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> "LoRARequest | None":
            # Decoding takes seconds, in which the server's other requests go on.
            found = await asyncio.to_thread(expand, folder, shelf, base_model_name, lora_name)
            if found is None:
                return None
            return LoRARequest(
                lora_name=lora_name, lora_int_id=id_of(found.name), lora_path=str(found)
            )

    return ExpertResolver()


def id_of(version: str) -> int:
    """The id of a version of an expert: the same again for the same one, and no other's.

    vLLM takes two adapters of one id for one. A checksum of the name would be the same for some
    pair of 100,000 names with a probability of 69 %. (Its server gives ids of its own to what
    resolvers find, but other callers of a resolver do not.)
    """
    with _guard:
        if version not in _ids:
            _ids[version] = next(_numbers)
        return _ids[version]


def expand(folder: Path, shelf: Shelf, base_model: str, name: str) -> Path | None:
    """The plain folder of an expert, or None if the base model has no expert of that name.

    Args:
        folder: Folder with one expert folder per name.
        shelf: Where plain folders are written.
        base_model: The base model's name in adapter_config.json; experts of other base models are
            not served.
        name: The name in a request, which may be any string.

    Raises:
        FormatError: If the expert is damaged.
        MetroFastError: If vLLM would not add what PEFT adds, for instance for DoRA, or another user
            could write to the shelf.
        OSError: If the expert cannot be read, or its plain folder not be written.
    """
    try:
        check_name(name)
    except MetroFastError as refusal:  # Another resolver may know it.
        _log.info("not resolved: %s", refusal)
        return None
    if not (folder / name / EXPERT_FILE).is_file():
        return None
    expert = Expert.load(folder / name)
    if expert.config is None:
        return None
    config = parse_config(expert.config)
    if config.get("peft_type") != "LORA" or config.get("base_model_name_or_path") != base_model:
        _log.info("not resolved: %s is a LoRA of another base, or none", shown(name))
        return None
    planned = plan(name, expert)
    # Of what is written, not of its source, which another release may write otherwise. A checksum
    # would let a stranger make two experts of one version.
    version = hashlib.sha256(planned.config)
    version.update(expert.file.tobytes())
    return shelf.take(
        name, version.hexdigest()[:32], lambda target: write_plain(expert, planned, target)
    )

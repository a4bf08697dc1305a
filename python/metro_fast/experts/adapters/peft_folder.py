"""Adapter folders as PEFT writes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metro_fast import _atomic as whole
from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.config_fields import check_fields
from metro_fast.experts.adapters.live_names import saved_names
from metro_fast.experts.adapters.state_file import (
    other_file,
    read_pickle,
    read_safetensors,
    write_safetensors,
)
from metro_fast.experts.adapters.tensors import RawTensor, StateDict
from metro_fast.experts.adapters.unfit import refuse_lone_factors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
EXPERT_FILE = "adapter_model.compeft.safetensors"
"""The weights of a compressed expert; PEFT does not know the name and must not load the file."""
_KINDS = {
    "LORA": "lora",
    "IA3": "ia3",
    "PROMPT_TUNING": "prompt",
    "PREFIX_TUNING": "prompt",
    "P_TUNING": "prompt",
}

MOST_BYTES = 2 << 20
"""The largest adapter_config.json that is read. PEFT writes 1 to 3 kB; a rank for each of 18,000
experts of a mixture takes 1.1 MB."""

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""PEFT's ways of initializing a LoRA that subtract B A from the base weights."""

_STARTS = ("gaussian", "eva", "orthogonal", "mica")
"""Its ways that leave the base as it is."""

_OTHERS = {
    "an AdapterHub adapter (the library adapters)": {"config", "model_type", "model_class"},
    "an AdapterHub head (the library adapters)": {"config", "model_type", "hidden_size"},
    "an MLX adapter (mlx-lm)": {"fine_tune_type"},
}
"""Libraries that call their configuration by the same name, by keys that PEFT's never has."""

_REFUSED = {
    "use_bdlora": "block-diagonal LoRA cannot be compressed, only plain LoRA",
    "kasa_config": "KaSA changes the base weights, so it cannot be compressed",
    "monteclora_config": "MonteCLoRA cannot be compressed, only plain LoRA",
    "target_parameters": "LoRA on bare parameters (one A and B for many experts of a mixture) "
    "cannot be compressed, only LoRA on modules",
}
"""Settings under which the weights are more than a module's A and B, or mean something else. rsLoRA
and the patterns of rank and alpha are allowed: the configuration is kept byte for byte."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's weights and its configuration.

    Attributes:
        state: Weights by name.
        config: The bytes of adapter_config.json.
        kind: lora, ia3 or prompt.

    Example:
        >>> Adapter(StateDict({}, {}), b"{}", "lora")
        Adapter(lora, 0 tensors)
    """

    state: StateDict[RawTensor]
    config: bytes
    kind: str

    def __repr__(self) -> str:
        return f"Adapter({self.kind}, {len(self.state)} tensors)"


def read_folder(folder: Path) -> Adapter:
    """Read a PEFT folder; like PEFT, it prefers the weights in safetensors to a pickle.

    Raises:
        FileNotFoundError: If the folder, its configuration or its weights are missing.
        FormatError: If a file is damaged, or is a pickle with more than tensors in it.
        MetroFastError: If the adapter is of a kind that cannot be compressed.
    """
    config = _Config.of(folder)
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).exists():
            return config.adapter(folder / name)
    if (folder / EXPERT_FILE).exists():
        raise MetroFastError(
            f"{folder} holds {EXPERT_FILE}, a compressed expert already: use Expert.load"
        )
    raise absent(folder, "weights", f"{WEIGHTS} or {PICKLED_WEIGHTS} beside {CONFIG}")


def read_weights(file: Path) -> Adapter:
    """Read one weights file of a PEFT folder with the configuration beside it.

    Raises:
        FileNotFoundError: If one of the two is missing.
        FormatError: If one is damaged, or is a pickle with more than tensors in it.
        MetroFastError: If the adapter is of a kind that cannot be compressed.
    """
    return _Config.of(file.parent).adapter(file)


class _Config(NamedTuple):
    """A configuration that can be compressed."""

    content: bytes
    kind: str

    @classmethod
    def of(cls, folder: Path) -> "_Config":
        content = read_config(folder / CONFIG)
        return cls(content, kind_of(parse_config(content, folder / CONFIG)))

    def adapter(self, file: Path) -> Adapter:
        read = read_safetensors if file.name == WEIGHTS else read_pickle
        state = read(file)
        if self.kind == "lora":
            names = saved_names(state)
            refuse_lone_factors(names.values())
            state = StateDict({names[n]: t for n, t in state.items()}, state.metadata)
        return Adapter(state, self.content, self.kind)


def write_folder(
    folder: Path,
    state: Mapping[str, RawTensor],
    config: bytes,
    metadata: Mapping[str, str] | None = None,
    *,
    check: Callable[[], object] = lambda: None,
    more: Callable[[Path], object] = lambda folder: None,
) -> None:
    """Write a plain PEFT folder: a new one whole or not at all.

    In a folder that is there each file is whole, and the weights come last.

    Args:
        folder: It is made if it does not exist; other files in it stay.
        state: Tensors by name.
        config: The bytes of adapter_config.json.
        metadata: The text beside the tensors, as `StateDict` has it.
        check: Called when nobody else can write to the folder any more, to refuse what is in it.
        more: Called with a folder, to which it writes more files that come with these.

    Raises:
        OSError: If the folder cannot be written to.
    """

    def write(temporary: Path) -> None:
        check()
        write_files(temporary, state, config, metadata)
        more(temporary)

    whole.write_folder(folder, write, keep_others=True, last=WEIGHTS)


def write_files(
    folder: Path,
    state: Mapping[str, RawTensor],
    config: bytes,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the two files of a plain PEFT folder into one that exists.

    Args:
        folder: The folder.
        state: As for `write_folder`.
        config: As for `write_folder`.
        metadata: As for `write_folder`.

    Raises:
        OSError: If the folder cannot be written to.
    """
    write_atomically(folder / CONFIG, config)
    write_safetensors(folder / WEIGHTS, state, metadata)


def read_config(path: Path) -> bytes:
    """The bytes of an adapter_config.json, but of no more than one that can be parsed.

    Raises:
        OSError: If it cannot be read, or is not a file (a pipe, a device).
        FormatError: If it is larger than a configuration is.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _too_large(path)
    return content


def parse_config(config: bytes, where: object = CONFIG) -> dict[str, Any]:
    """Parse adapter_config.json, and check what its fields hold.

    Args:
        config: Its bytes.
        where: Its path, for messages.

    Raises:
        FormatError: If it is not a JSON object, is too large, or a field that PEFT or an expert
            may read has another type or a value out of its range.
    """
    if len(config) > MOST_BYTES:
        raise _too_large(where)
    other = other_file(config)
    if other is not None:
        raise FormatError(f"{where}: not JSON: it is {other}")
    fields = parse_json(config, where)
    if not isinstance(fields, dict):
        raise FormatError(f"{where} holds a {type(fields).__name__}, expected an object")
    if "peft_type" not in fields or _peft_type(fields) in _KINDS:
        # Other kinds have other fields, and `kind_of` refuses them.
        check_fields(fields, where)
    return fields


def _peft_type(config: Mapping[str, Any]) -> str:
    return str(config["peft_type"]).rpartition(".")[2].upper()


def _too_large(where: object) -> FormatError:
    return FormatError(
        f"{where} has more than {MOST_BYTES:,} bytes, and a configuration of PEFT has some "
        "thousands: remove from it what PEFT did not write"
    )


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of an adapter, according to its configuration.

    Raises:
        MetroFastError: If it is of a kind that cannot be compressed; the message names it.
    """
    if "peft_type" not in config:
        owner = next((name for name, keys in _OTHERS.items() if keys <= set(config)), None)
        raise MetroFastError(
            f"peft_type is MISSING from {CONFIG}, which "
            + (f"is that of {owner}. " if owner else "is therefore not PEFT's. ")
            + "Give the file of weights instead of the folder, and say of which kind it is"
        )
    peft_type = _peft_type(config)
    if peft_type not in _KINDS:
        known = ", ".join(_KINDS)
        given = shown(peft_type)
        raise MetroFastError(f"peft_type is {given}, which cannot be compressed, only {known}")
    for setting, reason in _REFUSED.items():
        if config.get(setting):
            raise MetroFastError(f"{setting} is set: {reason}")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
        raise MetroFastError(
            f"init_lora_weights is {shown(repr(start))}: the base was changed when the adapter was "
            "made, so whatever compression drops would be missing from both. Convert the adapter "
            "first, where PEFT can: save_pretrained(..., "
            "path_initial_model_for_weight_conversion=...)"
        )
    if isinstance(start, str) and start.lower() not in _STARTS:
        raise MetroFastError(
            f"init_lora_weights is {shown(repr(start))}, expected true, false or one of "
            + ", ".join(_STARTS)
        )
    return _KINDS[peft_type]

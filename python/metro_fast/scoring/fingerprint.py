"""Hashes that are equal for equal models, and for equal tokenizers."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from metro_fast.errors import MetroFastError
from metro_fast.scoring.model_parts import split
from metro_fast.scoring.tensor_digests import tensor_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["model_fingerprint", "tokenizer_fingerprint"]

# Fields that describe the origin of a model, and not what it computes.
_IGNORED_CONFIG = frozenset(
    {"_name_or_path", "name_or_path", "transformers_version", "architectures", "use_cache"}
)


def model_fingerprint(model: "PreTrainedModel") -> str:
    """SHA-256 of everything a model computes with: its tensors, configuration and adapters.

    A model without an effective adapter has the hash of its base: configuration and tensors, by the
    names that they have without PEFT. So the hash of a `PeftModel` whose LoRA or IA3 is disabled,
    or whose adapters were all removed, is that of the model around which it was made. With an
    active or merged adapter it is a hash of two: that of the base (which merging changes), and that
    of the adapter, which is its tensors, settings, scaling and name. Adapters that are loaded and
    not active do not count. Virtual tokens (prompt tuning) count also while they are disabled.

    The bytes of a tensor are read each time, so that no change of them is missed, at the speed of
    memory; SHA-256 is computed once per process for the same bytes. The base is therefore hashed
    once however many experts are loaded on it, swapped and removed.

    Not covered are hooks, methods that were replaced, and buffers that are not saved with a model.

    Args:
        model: A transformers model, or a `PeftModel` around one.

    Returns:
        64 hexadecimal digits; equal after saving and loading in the same dtype.

    Raises:
        MetroFastError: If a tensor has no data, because it is on the meta device.
        MissingExtraError: If xxhash is not installed.

    Example:
        >>> model_fingerprint(model) == model_fingerprint(copy.deepcopy(model))  # doctest: +SKIP
        True
    """
    tensors, adapter = split(model)
    base = _sha256({"config": _settings(model.config.to_dict()), "tensors": _digests(tensors)})
    if not adapter:
        return base
    own = {
        "tensors": _digests(adapter.tensors),
        "layers": adapter.layers,
        "configs": adapter.configs,
    }
    return _sha256([base, _sha256(own)])


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of a tokenizer's mapping from text to ids.

    Args:
        tokenizer: Any transformers tokenizer.

    Returns:
        64 hexadecimal digits, which do not change when the tokenizer is used.

    Example:
        >>> tokenizer_fingerprint(tokenizer)[:8]  # doctest: +SKIP
        '5f0c2a91'
    """
    special = {"eos": tokenizer.eos_token_id, "bos": tokenizer.bos_token_id}
    if tokenizer.is_fast:
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        # A call with truncation=True leaves its settings in the backend.
        state = {k: v for k, v in state.items() if k not in ("truncation", "padding")}
    else:
        state = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
    text = json.dumps([special, state], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(value: Any) -> Any:
    """A configuration without the fields that name its origin, at any depth."""
    if isinstance(value, Mapping):
        return {str(k): _settings(v) for k, v in value.items() if k not in _IGNORED_CONFIG}
    return value


def _digests(entries: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Dtype, shape and SHA-256 of each tensor; modules may keep a state of another kind too."""
    found: dict[str, list[Any]] = {}
    same: dict[int, list[Any]] = {}  # a tied tensor has several names
    for name, value in entries.items():
        if not isinstance(value, torch.Tensor):
            found[name] = [type(value).__name__, value]
            continue
        if id(value) in same:
            found[name] = same[id(value)]
            continue
        if value.is_meta:
            raise MetroFastError(
                f"{name} is on the meta device, without values: load the whole model into memory"
            )
        found[name] = [str(value.dtype), list(value.shape), tensor_digest(value).hex()]
        same[id(value)] = found[name]
    return found


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A JSON value for what JSON lacks; a set has another order in each process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)

"""Hashes that are equal for equal models, and for equal tokenizers."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["model_fingerprint", "tokenizer_fingerprint"]

# Fields that describe the origin of a model, and not what it computes.
_IGNORED_CONFIG = frozenset(
    {"_name_or_path", "name_or_path", "transformers_version", "architectures", "use_cache"}
)


def model_fingerprint(model: "PreTrainedModel") -> str:
    """SHA-256 of everything a model computes with: its tensors, configuration and adapters.

    A state dict alone is not enough: the scaling of a LoRA is not a tensor, and a `PeftModel` whose
    adapter is disabled has the same tensors as one whose adapter is enabled.

    Args:
        model: A transformers model, or a `PeftModel` around one.

    Returns:
        64 hexadecimal digits; equal after saving and loading in the same dtype.

    Example:
        >>> model_fingerprint(model) == model_fingerprint(copy.deepcopy(model))  # doctest: +SKIP
        True
    """
    digest = hashlib.sha256()
    config = {k: v for k, v in model.config.to_dict().items() if k not in _IGNORED_CONFIG}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        # The bytes are hashed, because numpy has no bfloat16.
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy())
    for name, module in model.named_modules():
        state = _adapter_state(module)
        if state is not None:
            digest.update(json.dumps([name, state], sort_keys=True, default=str).encode())
    return digest.hexdigest()


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


def _adapter_state(module: torch.nn.Module) -> dict[str, Any] | None:
    """The state of a PEFT layer besides its tensors; None for any other module."""
    active: object = getattr(module, "active_adapters", None)
    # On a whole model this is a method; the state is that of its layers.
    if not isinstance(active, list | tuple):
        return None
    scaling: object = getattr(module, "scaling", None)
    return {
        "active": list(active),
        "disabled": bool(getattr(module, "disable_adapters", False)),
        "merged": list(getattr(module, "merged_adapters", ())),
        "scaling": scaling if isinstance(scaling, dict) else None,
    }

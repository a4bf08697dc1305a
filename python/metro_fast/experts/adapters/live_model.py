"""Adapters of models in memory: whatever the model's own way of saving writes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError

_GATHER = (
    "gather the shards first (deepspeed.zero.GatheredParameters, FSDP.summon_full_params or "
    "Accelerator.get_state_dict), call save_pretrained with the whole tensors and compress that "
    "folder"
)


def unwrapped(source: Any) -> Any:
    """A model without the wrappers of torch.compile, data parallelism and accelerate around it.

    Anything that is not a model of torch is returned unchanged.
    """
    torch = sys.modules.get("torch")
    while torch is not None and isinstance(source, torch.nn.Module):
        # Looked up without __getattr__, by which wrappers pass on what they hold themselves.
        inside = {**vars(source), **source._modules}
        inner = inside.get("_orig_mod")
        if inner is None and not hasattr(type(source), "save_pretrained"):
            inner = inside.get("module")
        if not isinstance(inner, torch.nn.Module):
            break
        source = inner
    return source


def save_adapter(model: Any, folder: Path) -> Path:
    """Write the active adapter of a model as the model's own method does.

    That method is `save_pretrained` of a PeftModel, or of a transformers model with `add_adapter`,
    and `save_lora_adapter` of a diffusers model. The model is left as it was.

    Args:
        model: A model, without wrappers around it.
        folder: An empty folder.

    Returns:
        The folder of a PEFT adapter, or the weights file that diffusers wrote.

    Raises:
        MetroFastError: If the model cannot save one adapter alone, is sharded, or its own method
            fails; the message says what to do.
        MissingExtraError: If peft is not installed.
    """
    _refuse_fsdp(model)
    save = _method(model)
    _refuse_shards(model)
    _refuse_merged_embeddings(model)
    with _configurations_kept(model):
        try:
            return save(folder)
        # Torch, safetensors and PEFT raise these for tensors without data and unknown modules.
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0][:300]
            raise MetroFastError(
                f"the {type(model).__name__} cannot save its adapter: {reason}"
            ) from error


def _method(model: Any) -> Callable[[Path], Path]:
    """The model's own method, applied to its active adapter."""
    peft = require("peft", "peft")
    kind = type(model).__name__
    if isinstance(model, peft.PeftMixedModel):
        raise MetroFastError(
            "a PeftMixedModel cannot be saved, and so has no adapter to compress: train or load "
            "each adapter in a PeftModel of its own"
        )
    if isinstance(model, peft.PeftModel):
        name = _only(model, model.active_adapter if _is_prompt(model) else model.active_adapters)

        def of_peft(folder: Path) -> Path:
            model.save_pretrained(str(folder), selected_adapters=[name])
            return folder if name == "default" else folder / name

        return of_peft
    # Looked up in the class: PEFT's inner models pass on the methods of the model that they hold.
    if hasattr(type(model), "save_lora_adapter"):
        name = _only(model, model.active_adapters())

        def of_diffusers(folder: Path) -> Path:
            model.save_lora_adapter(str(folder), adapter_name=name)
            return next(folder.iterdir())

        return of_diffusers
    saves = hasattr(type(model), "save_pretrained")
    if saves and getattr(model, "_hf_peft_config_loaded", False):
        _only(model, model.active_adapters())

        def of_transformers(folder: Path) -> Path:
            model.save_pretrained(str(folder))
            return folder

        return of_transformers
    raise MetroFastError(
        f"a {kind} has no save_pretrained that writes its adapter alone: give the PeftModel around "
        "it, or peft.get_peft_model_state_dict(model), or the folder of a saved adapter"
    )


def _is_prompt(model: Any) -> bool:
    return (
        bool(model.peft_config[model.active_adapter].is_prompt_learning)
        if isinstance(model.active_adapter, str)
        else False
    )


def _only(model: Any, active: Any) -> str:
    """The one active adapter."""
    names = [active] if isinstance(active, str) else list(active or [])
    if len(names) != 1 or names[0] not in model.peft_config:
        known = ", ".join(model.peft_config) or "none"
        raise MetroFastError(
            f"the active adapters are {', '.join(names) or 'none'} (of {known}), expected one: "
            "choose it with the model's set_adapter"
        )
    return str(names[0])


def _refuse_fsdp(model: Any) -> None:
    """Refuse models whose parameters FSDP has replaced by flat ones."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    for name, module in model.named_modules():
        if fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel):
            where = name or "the whole model"
            raise MetroFastError(f"{where} is sharded by FSDP: {_GATHER}")


def _refuse_shards(model: Any) -> None:
    """Refuse adapters of which this process holds parts, or nothing."""
    dtensor = sys.modules.get("torch.distributed.tensor")
    adapters = set(model.peft_config)
    # Tensor parallelism of transformers gathers when it saves.
    gathers = getattr(model, "_tp_size", None) is not None
    for name, parameter in model.named_parameters():
        if not adapters & set(name.split(".")):
            continue
        if hasattr(parameter, "ds_id") and parameter.numel() == 0:
            raise MetroFastError(f"{name} is empty, a shard of DeepSpeed ZeRO-3: {_GATHER}")
        if parameter.is_meta:
            raise MetroFastError(
                f"{name} is a meta tensor, whose values are offloaded or were never loaded: load "
                "the adapter into memory, or give the folder of a saved adapter"
            )
        if dtensor is not None and isinstance(parameter, dtensor.DTensor) and not gathers:
            raise MetroFastError(f"{name} is a DTensor, sharded over processes: {_GATHER}")


def _refuse_merged_embeddings(model: Any) -> None:
    """Refuse merged layers whose own weight is saved with the adapter, which would count twice.

    PEFT saves the weights of embeddings and of the head that have LoRA.
    """
    torch = require("torch", "peft")
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.constants import EMBEDDING_LAYER_NAMES

    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer) or not module.merged:
            continue
        saved = name.rpartition(".")[2] in EMBEDDING_LAYER_NAMES
        if saved or isinstance(module.get_base_layer(), torch.nn.Embedding):
            raise MetroFastError(
                f"an adapter is merged into the weight of {name}, which is saved beside its "
                "factors, so that the update would be loaded twice: call unmerge_adapter() first"
            )


@contextmanager
def _configurations_kept(model: Any) -> Iterator[None]:
    """Undo what saving writes into configurations: the model's name, its dtype and its class."""
    configs = [*model.peft_config.values(), getattr(model, "config", None)]
    before = [(config, dict(vars(config))) for config in configs if hasattr(config, "__dict__")]
    try:
        yield
    finally:
        for config, values in before:
            vars(config).clear()
            vars(config).update(values)

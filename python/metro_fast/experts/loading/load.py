"""A compressed expert straight into a model."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load_full import load_full


def load_expert(
    model: Any,
    path: "str | Path | Expert",
    adapter_name: str = "default",
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> Any:
    """Put an expert into a model, as PEFT would load it from its decompressed folder.

    Outputs are bit-equal to `PeftModel.from_pretrained(model, folder,
    autocast_adapter_dtype=False)` on what `decompress` writes. The residual of a full finetune is
    put onto the model's own weights, or onto `initial`.

    Args:
        model: A transformers model, or a PeftModel that takes one adapter more. It is changed in
            place, as PEFT does; if the expert does not fit, it is left as it was.
        path: The expert's folder or weights file, its name on the Hub (`hf://owner/name`), or an
            `Expert`.
        adapter_name: The name of the new adapter; it becomes the active one.
        initial: Of a full residual: the pristine base, a state dict or a checkpoint, if the model
            has other weights by now. A residual is never taken off again.

    Returns:
        The PeftModel, in evaluation mode; of a full residual the model itself.

    Raises:
        MissingExtraError: If peft is not installed.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it is no PEFT adapter, does not fit the model, or the name is taken.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> from metro_fast.experts import compress
        >>> def base():
        ...     return torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> trained = get_peft_model(base(), LoraConfig(r=2, target_modules=["0"]))
        >>> model = load_expert(base(), compress(trained, density=0.5))
        >>> model.active_adapter
        'default'
    """
    peft = require("peft", "peft")
    expert = read_expert(path)
    if expert.config is None and expert.manifest.kind == "full":
        return load_full(model, expert, initial)
    if expert.config is None:
        raise MetroFastError("the expert has no adapter_config.json: load its state_dict() instead")
    if initial is not None:
        raise MetroFastError("initial is given, but the expert is an adapter, not a full residual")
    if not adapter_name or "." in adapter_name:
        raise MetroFastError(f"adapter_name is {adapter_name!r}, expected a name without a dot")
    if isinstance(model, peft.PeftModel) and adapter_name in model.peft_config:
        raise MetroFastError(f"the model has an adapter {adapter_name!r} already")
    kind_of(parse_config(expert.config))
    config = peft_config(peft, expert.config)
    with ExitStack() as undo:
        try:
            adapted = adapt(peft, model, config, adapter_name, undo)
        except ValueError as error:  # of PEFT: it finds none of the modules that the expert adapts
            raise MetroFastError(f"{_origin(expert)} ({error})") from error
        _fill(peft, adapted, expert, adapter_name)
        undo.pop_all()
    return adapted.eval()


def adapt(peft: Any, model: Any, config: Any, adapter_name: str, undo: ExitStack) -> Any:
    """Put an adapter with random weights into the model; `undo` takes it out again.

    Args:
        peft: The module.
        model: A transformers model, or a PeftModel that takes one adapter more.
        config: PEFT's configuration of the adapter.
        adapter_name: Its name; it becomes the active one.
        undo: Gets what leaves the model as it was.

    Returns:
        The PeftModel.

    Raises:
        ValueError: Of PEFT, if the model has none of the adapter's modules.
    """
    undo.callback(_restore_gradients, [(p, p.requires_grad) for p in model.parameters()])
    if isinstance(model, peft.PeftModel):
        previous = model.active_adapter
        model.add_adapter(adapter_name, config, autocast_adapter_dtype=False)
        undo.callback(model.delete_adapter, adapter_name)
        undo.callback(model.set_adapter, previous)
        model.set_adapter(adapter_name, inference_mode=True)
        return model
    before = set(vars(model))
    kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
    adapted = kind(model, config, adapter_name, autocast_adapter_dtype=False)
    undo.callback(_keep_attributes, model, before)
    if not config.is_prompt_learning:
        undo.callback(adapted.base_model.unload)
        # First of all, since unloading would leave the adapter's own copies of saved modules.
        undo.callback(adapted.base_model.delete_adapter, adapter_name)
    return adapted


def _keep_attributes(model: Any, names: set[str]) -> None:
    for name in set(vars(model)) - names:
        delattr(model, name)


def _restore_gradients(flags: list[tuple[Any, bool]]) -> None:
    for parameter, required in flags:
        parameter.requires_grad_(required)


def _fill(peft: Any, adapted: Any, expert: Expert, adapter_name: str) -> None:
    """Check names and shapes against the model, and only then decode."""
    manifest = expert.manifest
    shapes = {tensor.name: tensor.shape for tensor in manifest.tensors}
    shapes |= {tensor.name: tensor.shape for tensor in manifest.dense}
    # Not "auto", which asks the Hub whether the vocabulary was resized.
    expected = peft.get_peft_model_state_dict(
        adapted, adapter_name=adapter_name, save_embedding_layers=False
    )
    for key, tensor in expected.items():
        if key not in shapes:
            raise MetroFastError(f"the expert lacks {key}: {_origin(expert)}")
        if shapes[key] != tuple(tensor.shape):
            both = f"{shapes[key]}, the model's {tuple(tensor.shape)}"
            raise MetroFastError(f"{key} has shape {both}: {_origin(expert)}")
    room = sum(parameter.numel() for parameter in adapted.parameters())
    if manifest.parameters > room:
        raise MetroFastError(
            f"the expert has {manifest.parameters:,} parameters, the adapted model {room:,}: "
            f"{_origin(expert)}"
        )
    result = peft.set_peft_model_state_dict(adapted, expert.state_dict(), adapter_name=adapter_name)
    unexpected = [key for key in result.unexpected_keys if key not in expected]
    if unexpected:
        raise MetroFastError(f"the model has no place for {unexpected[0]}: {_origin(expert)}")


def _origin(expert: Expert) -> str:
    return f"the expert was made for {expert.manifest.base.model}, is this that model?"


def peft_config(peft: Any, config: bytes) -> Any:
    """PEFT's configuration of the bytes of an adapter_config.json."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(config)
        parsed = peft.PeftConfig.from_pretrained(folder)
    parsed.inference_mode = True
    return parsed

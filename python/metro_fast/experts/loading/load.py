"""Loading of a compressed expert into a model."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load_full import ModelT, load_full

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


def load_expert(
    model: ModelT,
    path: str | Path | Expert,
    adapter_name: str = "default",
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> "ModelT | PeftModel":
    """Put an expert into a model, as PEFT would load it from its decompressed folder.

    Outputs are bit-equal to `PeftModel.from_pretrained(model, folder,
    autocast_adapter_dtype=False)` on the folder that `decompress` writes. The residual of a full
    finetune is added to the model's own weights, or to `initial`.

    Args:
        model: A transformers model, or a PeftModel that gets one more adapter. It is changed in
            place, as PEFT does; if the expert does not fit, it is left unchanged.
        path: The expert's folder or weights file, its name on the Hub (`hf://owner/name`), or an
            `Expert`.
        adapter_name: The name of the new adapter; it becomes the active one.
        initial: For a full residual: the original base, as a state dict or a checkpoint, if the
            model has other weights by now. A residual is never subtracted again.

    Returns:
        The PeftModel, in evaluation mode; for a full residual the model itself.

    Raises:
        TypeError: If `path` is not an expert or a path.
        MissingExtraError: If peft is not installed.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it is not a PEFT adapter, does not fit the model, or the name is taken.

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
    if expert.config is None:
        return load_whole(model, expert, initial)
    if initial is not None:
        raise MetroFastError("initial is given, but the expert is an adapter, not a full residual")
    if not adapter_name or "." in adapter_name:
        raise MetroFastError(f"adapter_name is {adapter_name!r}, expected a name without a dot")
    loaded: Any = model
    if isinstance(loaded, peft.PeftModel) and adapter_name in loaded.peft_config:
        raise MetroFastError(
            f"the model has an adapter {adapter_name!r} already: choose another adapter_name"
        )
    kind_of(parse_config(expert.config))
    config = peft_config(peft, expert.config)
    with ExitStack() as undo:
        try:
            adapted = adapt(peft, model, config, adapter_name, undo)
        except ValueError as error:  # PEFT found none of the modules that the expert adapts
            raise MetroFastError(f"{_origin(expert)} ({error})") from error
        _fill(peft, adapted, expert, adapter_name)
        undo.pop_all()
    adapted.eval()
    return adapted


def load_whole(
    model: ModelT, expert: Expert, initial: Mapping[str, Any] | str | Path | None
) -> ModelT:
    """Load an expert without an adapter_config.json, which must be a full residual.

    Args:
        model: A transformers or torch model.
        expert: The expert.
        initial: As for `load_expert`.

    Raises:
        MetroFastError: If the expert is of another kind, or does not fit the model.
    """
    if expert.manifest.kind != "full":
        raise MetroFastError(
            "the expert has no adapter_config.json, so PEFT cannot load it: use its state_dict()"
        )
    return load_full(model, expert, initial)


def adapt(
    peft: Any, model: Any, config: "PeftConfig", adapter_name: str, undo: ExitStack
) -> "PeftModel":
    """Put an adapter with random weights into a model.

    Args:
        peft: The module.
        model: A transformers model, or a PeftModel that gets one more adapter.
        config: PEFT's configuration of the adapter.
        adapter_name: The adapter's name; it becomes the active one.
        undo: Receives the callbacks that remove the adapter again.

    Returns:
        The PeftModel.

    Raises:
        ValueError: If PEFT finds none of the adapter's modules in the model.
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
        # This runs before the unloading, which would leave the adapter's copies of saved modules.
        undo.callback(adapted.base_model.delete_adapter, adapter_name)
    return adapted


def _keep_attributes(model: Any, names: set[str]) -> None:
    for name in set(vars(model)) - names:
        delattr(model, name)


def _restore_gradients(flags: list[tuple[Any, bool]]) -> None:
    for parameter, required in flags:
        parameter.requires_grad_(required)


def _fill(peft: Any, adapted: Any, expert: Expert, adapter_name: str) -> None:
    """Check names and shapes against the model, then decode the expert into it."""
    manifest = expert.manifest
    shapes = {tensor.name: tensor.shape for tensor in manifest.tensors}
    shapes |= {tensor.name: tensor.shape for tensor in manifest.dense}
    # The default, "auto", would ask the Hub whether the vocabulary was resized.
    expected = peft.get_peft_model_state_dict(
        adapted, adapter_name=adapter_name, save_embedding_layers=False
    )
    for key, tensor in expected.items():
        if key not in shapes:
            raise MetroFastError(f"the expert lacks {key}: {_origin(expert)}")
        if shapes[key] != tuple(tensor.shape):
            raise MetroFastError(
                f"{key} has shape {shapes[key]}, the model's {tuple(tensor.shape)}: "
                f"{_origin(expert)}"
            )
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
    base = shown(expert.manifest.base.model or "a model that it does not name")
    return f"the expert was made for {base}, is this that model?"


def peft_config(peft: Any, config: bytes) -> "PeftConfig":
    """PEFT's configuration object for the bytes of an adapter_config.json."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(config)
        parsed = peft.PeftConfig.from_pretrained(folder)
    parsed.inference_mode = True
    return parsed

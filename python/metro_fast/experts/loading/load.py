"""Loading of a compressed expert into a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.adapt import adapt, peft_config
from metro_fast.experts.loading.fill import Weights, fill
from metro_fast.experts.loading.load_full import ModelT, load_full
from metro_fast.experts.loading.undo import Undo, all_or_nothing

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


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
            place, as PEFT does; after any error it is as it was before, bit for bit.
        path: The expert's folder or weights file, its name on the Hub (`hf://owner/name`), or an
            `Expert`.
        adapter_name: The name of the new adapter; it becomes the active one.
        initial: For a full residual: the original base, as a state dict or a checkpoint, if the
            model has other weights by now. A residual is never subtracted again. For an adapter
            that was compressed with `initial`: the same values.

    Returns:
        The PeftModel, in evaluation mode; for a full residual the model itself.

    Raises:
        TypeError: If `path` is not an expert or a path, or `model` is not a torch module.
        MissingExtraError: If peft is not installed.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it is not a PEFT adapter, does not fit the model, or the name is taken;
            or if weights of the model are elsewhere (offloaded, on the meta device, sharded).

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
    require("peft", "peft")
    expert = read_expert(path)
    if expert.config is None:
        return load_whole(model, expert, initial)
    return all_or_nothing(lambda undo: put(model, expert, adapter_name, undo, initial))


def put(
    model: Any,
    expert: Expert,
    adapter_name: str,
    undo: Undo,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> "PeftModel":
    """Put an adapter into a model; the caller decides whether it stays.

    Args:
        model: A transformers model, or a PeftModel that gets one more adapter.
        expert: An expert with an adapter_config.json.
        adapter_name: The name of the new adapter; it becomes the active one.
        undo: Receives the steps that put the model back into the state that it had.
        initial: The values from which the expert is a residual, if it is one.

    Returns:
        The PeftModel, in evaluation mode.

    Raises:
        MetroFastError: As for `load_expert`.
    """
    peft = require("peft", "peft")
    if not isinstance(adapter_name, str):
        raise TypeError(f"adapter_name is a {type(adapter_name).__name__}, expected a string")
    if not adapter_name or "." in adapter_name:
        raise MetroFastError(f"adapter_name is {adapter_name!r}, expected a name without a dot")
    assert expert.config is not None
    check_needed(initial, needed=expert.manifest.needs_initial)
    given = read_initial(initial)
    shapes = {tensor.name: tensor.shape for tensor in expert.manifest.tensors}
    shapes |= {tensor.name: tensor.shape for tensor in expert.manifest.dense}
    made_for = shown(expert.manifest.base.model or "a model that it does not name")
    origin = f"the expert was made for {made_for}, is this that model?"

    def decode() -> "Mapping[str, torch.Tensor]":
        return expert.state_dict(initial=given)

    adapted = adapt(peft, model, peft_config(peft, expert.config), shapes, adapter_name, undo)
    fill(peft, adapted, adapter_name, Weights(shapes, decode, origin), undo)
    return adapted.model.eval()


def check_needed(initial: object, *, needed: bool) -> None:
    """Check that initial values are not given to an adapter that is whole without them.

    Raises:
        MetroFastError: If they are.
    """
    if initial is not None and not needed:
        raise MetroFastError(
            "initial is given, but the adapter was compressed without initial values: leave it out"
        )


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

"""Weights of an expert for an adapter in a model: checked as a whole, and then written."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.loading.adapt import Adapted, one_line
from metro_fast.experts.loading.embeddings import base_embeddings, twin_of
from metro_fast.experts.loading.snapshot import keep_values, put_back
from metro_fast.experts.loading.undo import Undo
from metro_fast.experts.loading.untie import check_tied

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]


class Weights(NamedTuple):
    """The weights that an adapter gets.

    Attributes:
        shapes: The shapes by the names that are in the file.
        decode: Returns the tensors by the same names.
        origin: Added to error messages: what these weights were made for.
    """

    shapes: Shapes
    decode: "Callable[[], Mapping[str, torch.Tensor]]"
    origin: str


def fill(peft: Any, made: Adapted, adapter_name: str, weights: Weights, undo: Undo) -> None:
    """Write weights into an adapter, as PEFT loads them from a file, if all of them fit.

    Names and shapes are compared before anything is decoded. Where PEFT converts names when it
    loads (transformers 5 renamed and fused layers of several architectures), its own conversion
    runs first, on tensors without data.

    PEFT also saves the embeddings of a model whose vocabulary has grown, or whose embeddings have
    LoRA, and overwrites those of the base when it loads; so does this.

    Args:
        peft: The module.
        made: The model with the adapter.
        adapter_name: The adapter's name.
        weights: The weights.
        undo: Receives the steps that restore overwritten tensors of the base.

    Raises:
        MetroFastError: If a weight is missing, has no place in the model or has another shape.
    """
    adapted, old = made
    expected = saved_tensors(peft, adapted, adapter_name)
    embeddings = base_embeddings(adapted)
    base = {n: embeddings[n] for n in weights.shapes if n in embeddings and n not in expected}
    twins = {n: twin_of(n) for n in weights.shapes if n not in expected and twin_of(n) in expected}
    own = {n: shape for n, shape in weights.shapes.items() if n not in base and n not in twins}
    for name, parameter in base.items():
        _check_vocabulary(name, weights.shapes[name], tuple(parameter.shape), weights.origin)
    _check_names(_as_loaded(adapted, adapter_name, own, weights.origin), expected, weights.origin)
    tensors = weights.decode()
    _check_twins(tensors, twins)
    check_tied(base, {name: tensors[name] for name in base})
    _check_other_adapters(adapted, base, tensors)
    addresses = {tensor.data_ptr() for tensor in expected.values()}
    trained = [p for p in old if p.data_ptr() in addresses]  # a bias of the base, for instance
    undo.callback(put_back, keep_values([*trained, *base.values()]))
    result = peft.set_peft_model_state_dict(
        adapted, {name: tensors[name] for name in own}, adapter_name=adapter_name
    )
    unexpected = [key for key in result.unexpected_keys if key not in expected]
    if unexpected:
        raise MetroFastError(f"the model has no place for {unexpected[0]}: {weights.origin}")
    _check_filled(adapted, adapter_name, set(result.missing_keys), old)
    for name, parameter in base.items():
        parameter.data.copy_(tensors[name])


def saved_tensors(peft: Any, adapted: Any, adapter_name: str) -> "dict[str, torch.Tensor]":
    """The tensors of an adapter, by the names that PEFT saves them under."""
    # The default, "auto", would ask the Hub whether the vocabulary was resized.
    found: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(
        adapted, adapter_name=adapter_name, save_embedding_layers=False
    )
    return found


def _as_loaded(adapted: Any, adapter_name: str, shapes: Shapes, origin: str) -> Shapes:
    """The names and shapes that PEFT's conversion gives to tensors of these names and shapes."""
    torch = require("torch", "peft")
    from peft.utils.transformers_weight_conversion import (
        convert_peft_adapter_state_dict_for_transformers,
    )

    empty = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    try:
        converted = convert_peft_adapter_state_dict_for_transformers(
            model=adapted,
            peft_config=adapted.peft_config[adapter_name],
            adapter_state_dict=empty,
            adapter_name=adapter_name,
        )
    except (ValueError, RuntimeError, KeyError, IndexError) as error:
        raise MetroFastError(
            f"PEFT cannot convert the weights to this model's layers ({one_line(error)}): {origin}"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in converted.items()}


def _check_names(found: Shapes, expected: "Mapping[str, torch.Tensor]", origin: str) -> None:
    for name, tensor in expected.items():
        if name not in found:
            _refuse_compiled(name, found)
            raise MetroFastError(f"the expert lacks {name}: {origin}")
        if found[name] != tuple(tensor.shape):
            raise MetroFastError(
                f"{name} has shape {found[name]}, the model's {tuple(tensor.shape)}: {origin}"
            )
    extra = next((name for name in found if name not in expected), None)
    if extra is not None:
        raise MetroFastError(f"the model has no place for {extra}: {origin}")


def _refuse_compiled(name: str, found: Shapes) -> None:
    """Say so if a name is lacking only because torch.compile puts `_orig_mod` into names."""
    plain = name.replace("_orig_mod.", "")
    other = next((n for n in found if n.replace("_orig_mod.", "") == plain), None)
    if other is not None:
        raise MetroFastError(
            f"the expert lacks {name}, but has {other}: one of the two models was compiled before "
            "it got its adapter, which changes names: load into a model that is compiled like the "
            "trained one, or take ._orig_mod out of the names and compress again"
        )


def _check_vocabulary(
    name: str, ours: tuple[int, ...], theirs: tuple[int, ...], origin: str
) -> None:
    if ours[1:] == theirs[1:] and ours[0] != theirs[0]:
        raise MetroFastError(
            f"{name} has {ours[0]} tokens, the model's {theirs[0]}: call "
            f"model.resize_token_embeddings({ours[0]}) first ({origin})"
        )
    if ours != theirs:
        raise MetroFastError(f"{name} has shape {ours}, the model's {theirs}: {origin}")


def _check_twins(tensors: "Mapping[str, torch.Tensor]", twins: Mapping[str, str]) -> None:
    torch = require("torch", "peft")
    for name, twin in twins.items():
        if twin not in tensors or not torch.equal(tensors[name], tensors[twin]):
            raise MetroFastError(
                f"{name} differs from {twin}, and PEFT would drop it: the file is damaged"
            )


def _check_other_adapters(
    adapted: Any, base: "Mapping[str, torch.nn.Parameter]", tensors: "Mapping[str, torch.Tensor]"
) -> None:
    """Check that embeddings are not overwritten on which the model's other adapters rely."""
    torch = require("torch", "peft")
    if len(adapted.peft_config) == 1:
        return
    for name, parameter in base.items():
        if not torch.equal(tensors[name].to(parameter), parameter):
            others = list(adapted.peft_config)[:-1]
            raise MetroFastError(
                f"the expert brings its own {name}, which would replace the one that the adapters "
                f"{others} work with: load it into another copy of the model"
            )


def _check_filled(adapted: Any, adapter_name: str, missing: set[str], old: list[Any]) -> None:
    if adapted.peft_config[adapter_name].is_prompt_learning:
        return  # PEFT loads these past the module's own state, and their names were compared
    named = list(adapted.named_parameters(remove_duplicate=False))
    filled = {id(parameter) for parameter in old}
    filled |= {id(parameter) for name, parameter in named if name not in missing}
    for name, parameter in named:
        # With several adapters PEFT reports those of the others as missing.
        if id(parameter) not in filled and f".{adapter_name}" in name:
            raise MetroFastError(
                f"PEFT left {name} at its random start, though the expert has every weight that "
                "PEFT saves: this kind of adapter is not supported"
            )

"""Checks that experts can be combined: one kind, base and layout, and one scaling of LoRA."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import Initial
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.scaling import lora_scaling, module_of
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert

Source = Expert | TaskVector


class TensorLayout(NamedTuple):
    """The properties of a tensor that all combined experts must share.

    Attributes:
        shape: Its shape.
        initial: The rule for its initial values: `"zero"`, `"one"` or `"given"`.
    """

    shape: tuple[int, ...]
    initial: Initial


def kind_of_source(source: Source) -> str:
    """The kind of an expert or task vector, for instance `"lora"`."""
    return source.manifest.kind if isinstance(source, Expert) else source.kind


def layout_of(source: Source) -> dict[str, TensorLayout]:
    """The layout of each tensor that is combined, by name; dense tensors are not."""
    if isinstance(source, Expert):
        return {t.name: TensorLayout(t.shape, t.initial) for t in source.manifest.tensors}
    return {n: TensorLayout(r.values.shape, r.initial) for n, r in source.residuals.items()}


def check_layouts(experts: Mapping[str, Source]) -> None:
    """Check that all experts have the kind, the base model and the tensors of the first.

    Args:
        experts: Experts by the names that error messages give them.

    Raises:
        MetroFastError: If two experts differ; the message names them and the difference.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import task_vector
        >>> one, two = (task_vector({"m.ia3_l": np.ones(n, np.float32)}) for n in (4, 5))
        >>> check_layouts({"a": one, "b": two})
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: m.ia3_l has shape (5,) in expert b, (4,) in expert a
    """
    (first, one), *others = experts.items()
    layout = layout_of(one)
    for other, two in others:
        _check_properties(first, one, other, two)
        for name, ours, theirs in _differences(layout, layout_of(two)):
            if ours is None or theirs is None:
                raise MetroFastError(f"only one of the experts {first} and {other} has {name}")
            hint = ": only merge(..., space='delta') combines LoRA experts of different ranks"
            raise MetroFastError(
                f"{name} has shape {theirs.shape} in expert {other}, {ours.shape} in expert {first}"
                + (hint if kind_of_source(one) == "lora" else "")
            )


def check_scalings(experts: Mapping[str, Source], remedy: str) -> None:
    """Check that all LoRA experts scale B A alike, so that A and B can be combined separately.

    Args:
        experts: Experts of one layout, by the names that error messages give them.
        remedy: What the message recommends if they do not.

    Raises:
        MetroFastError: If alpha / r differs between two experts.
    """
    (first, one), *others = experts.items()
    if kind_of_source(one) != "lora" or one.config is None:
        return
    config, modules = parse_config(one.config), sorted({module_of(n) for n in layout_of(one)})
    if "r" not in config:
        return
    for other, two in others:
        if two.config is None:
            raise MetroFastError(
                f"expert {other} has no adapter_config.json, so that its scaling cannot be "
                f"compared with that of expert {first}: {remedy}"
            )
        theirs = parse_config(two.config)
        for module in modules:
            scalings = lora_scaling(config, module), lora_scaling(theirs, module)
            if scalings[0] != scalings[1]:
                raise MetroFastError(
                    f"expert {other} scales {module} by {scalings[1]:g}, expert {first} by "
                    f"{scalings[0]:g} (lora_alpha, r or use_rslora differ): {remedy}"
                )


def check_kinds(experts: Mapping[str, Source], allowed: Collection[str] = ("lora", "ia3")) -> None:
    """Check that experts are of one kind whose updates can be weighted and added.

    Args:
        experts: Experts by the names that error messages give them.
        allowed: The kinds that are accepted.

    Raises:
        MetroFastError: If an expert is of another kind, or two are of different kinds.
    """
    first = next(iter(experts))
    kinds = {name: kind_of_source(source) for name, source in experts.items()}
    for name, kind in kinds.items():
        if kind not in allowed:
            raise MetroFastError(
                f"expert {name} has kind {kind!r}, expected all {' or all '.join(allowed)}"
            )
        if kind != kinds[first]:
            raise MetroFastError(
                f"expert {name} has kind {kind!r}, expert {first} has kind {kinds[first]!r}: "
                f"expected all {' or all '.join(allowed)}"
            )


def common_modules(parts: Sequence[Collection[str]]) -> list[str]:
    """The modules that all experts adapt, in ascending order.

    Args:
        parts: The module names of each expert.

    Raises:
        MetroFastError: If one expert lacks a module.

    Example:
        >>> common_modules([["q", "v"], ["v", "q"]])
        ['q', 'v']
    """
    names = set(parts[0])
    for i, part in enumerate(parts):
        if set(part) != names:
            odd = sorted(set(part) ^ names)[0]
            raise MetroFastError(f"only one of the experts 0 and {i} adapts {odd}")
    return sorted(names)


def _check_properties(first: str, one: Source, other: str, two: Source) -> None:
    for name, ours, theirs in (
        ("kind", kind_of_source(one), kind_of_source(two)),
        ("base model", _base_of(one), _base_of(two)),
        ("initial values", _checksum_of(one), _checksum_of(two)),
    ):
        if ours != theirs:
            raise MetroFastError(
                f"expert {other} has {name} {theirs!r}, expert {first} has {name} {ours!r}: "
                "experts can only be combined if these are equal"
            )


def _differences(
    ours: Mapping[str, TensorLayout], theirs: Mapping[str, TensorLayout]
) -> list[tuple[str, TensorLayout | None, TensorLayout | None]]:
    """Names with different layouts, and both layouts; None where an expert lacks the tensor."""
    names = sorted(set(ours) | set(theirs))
    return [
        (name, ours.get(name), theirs.get(name))
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _base_of(source: Source) -> str | None:
    if isinstance(source, Expert):
        return source.manifest.base.model
    config = {} if source.config is None else parse_config(source.config)
    model = config.get("base_model_name_or_path")
    return None if model is None else str(model)


def _checksum_of(source: Source) -> int | None:
    if isinstance(source, Expert):
        return source.manifest.base.initial_crc32c
    return source.initial_crc32c

"""Checks that experts can be combined: one kind, base and layout, and known scalings of LoRA."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from metro_fast._shown import quoted, shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import Initial
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.roles import alphas_of, factor_of
from metro_fast.experts.adapters.scaling import module_of, module_scalings
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert

Source = Expert | TaskVector

_MUST_EQUAL = (
    "peft_type",
    "feedforward_modules",
    "use_dora",
    "alora_invocation_tokens",
    "use_qalora",
    "arrow_config",
    "layer_replication",
)
"""Settings that decide what an adapter's tensors do, and of which a result can only have one value.
Ranks and scalings are not among them: they are part of the merged values."""


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
            hint = (
                ": only the updates B A of LoRA experts can be merged across ranks (merge with "
                "space='delta', and TIES with rank=)"
            )
            raise MetroFastError(
                f"{name} has shape {theirs.shape} in expert {other}, {ours.shape} in expert {first}"
                + (hint if kind_of_source(one) == "lora" else "")
            )


def check_settings(experts: Mapping[str, Source]) -> None:
    """Check that all experts have the kind, the base model and the settings of the first.

    Args:
        experts: Experts by the names that error messages give them.

    Raises:
        MetroFastError: If two experts differ; the message names them and the difference.
    """
    (first, one), *others = experts.items()
    for other, two in others:
        _check_properties(first, one, other, two)


def scalings_of(source: Source) -> dict[str, float]:
    """The factor by which each module of a LoRA multiplies B A, by module.

    Raises:
        MetroFastError: If the configuration or an alpha among the tensors is not usable.
    """
    shapes = {name: entry.shape for name, entry in layout_of(source).items()}
    shapes |= {name: t.shape for name, t in source.dense.items() if factor_of(name) is not None}
    return module_scalings(shapes, source.dense, _config_of(source))


def check_configs(experts: Mapping[str, Source]) -> None:
    """Check that all LoRA experts have a configuration, which gives their scalings, or none has.

    Args:
        experts: Experts by the names that error messages give them; of other kinds, all pass.

    Raises:
        MetroFastError: If only some have one.
    """
    lora = {name: source for name, source in experts.items() if kind_of_source(source) == "lora"}
    with_config = next((name for name, source in lora.items() if source.config is not None), None)
    without = next((name for name, source in lora.items() if source.config is None), None)
    if with_config is not None and without is not None:
        raise MetroFastError(
            f"expert {without} has no adapter_config.json, so that its scaling is unknown, and "
            f"expert {with_config} has one: compress the adapter from its PEFT folder"
        )


def check_updates(experts: Mapping[str, Source]) -> None:
    """Check that the updates of LoRA experts are the products of their A and B.

    Args:
        experts: Experts by the names that error messages give them; of other kinds, all pass.

    Raises:
        MetroFastError: If a tensor was compressed with `initial`, or an update has other parts.
    """
    for name, source in experts.items():
        if kind_of_source(source) != "lora":
            continue
        given = next((n for n, entry in layout_of(source).items() if entry.initial == "given"), "")
        if given:
            raise MetroFastError(
                f"expert {name} was compressed with initial= ({given}), so that its update B A is "
                "not the product of what is stored: compress it without initial="
            )
        known = alphas(source)
        part = next((n for n in source.dense if ".lora_" in n and n not in known), None)
        if part is not None and factor_of(part) is None:
            config = _config_of(source) or {}
            settings = [
                key for key in ("use_dora", "lora_bias", "velora_config") if config.get(key)
            ]
            because = f" ({', '.join(settings)} is set)" if settings else ""
            raise MetroFastError(
                f"expert {name} has {part}{because}, which changes its update B A: only plain LoRA "
                "can be combined"
            )


def alphas(source: Source) -> dict[str, RawTensor]:
    """The alphas among the dense tensors of a LoRA without a configuration, by name.

    Raises:
        MetroFastError: If an alpha belongs to no module.
    """
    if kind_of_source(source) != "lora" or source.config is not None:
        return {}
    names = set(alphas_of([*layout_of(source), *source.dense]).values())
    return {name: tensor for name, tensor in source.dense.items() if name in names}


def check_scalings(experts: Mapping[str, Source], remedy: str) -> None:
    """Check that all LoRA experts scale B A alike, so that A and B can be summed as they are.

    Args:
        experts: Experts of one layout, by the names that error messages give them.
        remedy: What the message recommends if they do not.

    Raises:
        MetroFastError: If alpha / r differs between two experts.
    """
    (first, one), *others = experts.items()
    if kind_of_source(one) != "lora":
        return
    ours = scalings_of(one)
    for other, two in others:
        for module, theirs in scalings_of(two).items():
            if ours.get(module) != theirs:
                raise MetroFastError(
                    f"expert {other} scales {module_of(module)} by {theirs:g}, expert {first} by "
                    f"{ours[module]:g} (alpha, r or use_rslora differ): {remedy}"
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
                f"expert {name} has kind {quoted(kind)}, expected all {' or all '.join(allowed)}"
            )
        if kind != kinds[first]:
            raise MetroFastError(
                f"expert {name} has kind {quoted(kind)}, expert {first} has kind "
                f"{quoted(kinds[first])}: expected all {' or all '.join(allowed)}"
            )


def common_modules(parts: Mapping[str, Collection[str]]) -> list[str]:
    """The modules that all experts adapt, in ascending order.

    Args:
        parts: The module names of each expert, by its name.

    Raises:
        MetroFastError: If one expert lacks a module.

    Example:
        >>> common_modules({"one": ["q", "v"], "two": ["v", "q"]})
        ['q', 'v']
    """
    (first, names), *others = ((name, set(part)) for name, part in parts.items())
    for other, found in others:
        if found != names:
            odd = sorted(found ^ names)[0]
            raise MetroFastError(f"only one of the experts {first} and {other} adapts {odd}")
    return sorted(names)


def _check_properties(first: str, one: Source, other: str, two: Source) -> None:
    for name, ours, theirs in (
        ("kind", kind_of_source(one), kind_of_source(two)),
        ("base model", _base_of(one), _base_of(two)),
        ("initial values", _checksum_of(one), _checksum_of(two)),
    ):
        if ours != theirs:
            raise MetroFastError(
                f"expert {other} has {name} {shown(repr(theirs))}, "
                f"expert {first} has {name} {shown(repr(ours))}: "
                "experts can only be combined if these are equal"
            )
    settings, others = (_config_of(source) or {} for source in (one, two))
    for key in _MUST_EQUAL:
        # What an older PEFT does not write counts as off.
        value, their_value = (config.get(key) or None for config in (settings, others))
        if key == "feedforward_modules" and isinstance(value, list):
            value, their_value = sorted(value), sorted(their_value or [])
        if settings and others and value != their_value:
            raise MetroFastError(
                f"expert {other} has {key} {shown(repr(their_value))}, "
                f"expert {first} has {shown(repr(value))}: "
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


def _config_of(source: Source) -> dict[str, Any] | None:
    return None if source.config is None else parse_config(source.config)


def _base_of(source: Source) -> str | None:
    if isinstance(source, Expert):
        return source.manifest.base.model
    model = (_config_of(source) or {}).get("base_model_name_or_path")
    return None if model is None else str(model)


def _checksum_of(source: Source) -> int | None:
    if isinstance(source, Expert):
        return source.manifest.base.initial_crc32c
    return source.initial_crc32c

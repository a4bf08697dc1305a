"""Checks that PEFT can apply a configuration to a model within bounds, before it does so.

PEFT matches the patterns of a configuration with the name of every module, and allocates what the
configuration says; only then are the weights compared. So a file of 200 bytes could take years, or
all memory. What is refused here would be refused later anyway, for weights that are missing.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.pattern_work import Work
from metro_fast.experts.adapters.patterns import MOST_PATTERNS, Patterns
from metro_fast.experts.adapters.peft_folder import CONFIG
from metro_fast.experts.adapters.roles import factor_of

if TYPE_CHECKING:
    from peft import PeftConfig

_FREE_RANK = 64
"""A rank, or a number of tokens, that is allocated without asking: on a layer of 4,096 by 4,096
in float32 it takes 2 MiB."""

_FREE_NAMES = 1000
"""Names of modules that are compared without asking."""

_FREE_ELEMENTS = 1 << 20
_SUBMODULES = 4
"""The most times that PEFT repeats a prompt: once for the encoder and once for the decoder, and
twice that for keys and values."""


def check_fits(config: "PeftConfig", model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a configuration costs no more than the weights beside it and the model do.

    Args:
        config: PEFT's configuration, whose fields are checked already.
        model: The model that is to get the adapter.
        shapes: The shapes of the adapter's tensors, by name.

    Raises:
        FormatError: If a pattern takes too long on the names of the model's modules.
        MetroFastError: If the configuration has far larger parts than the weights.
    """
    fields = vars(config)
    modules = len({factor.module for name in shapes if (factor := factor_of(name)) is not None})
    _check_lengths(fields, max(modules, len(shapes)))
    _check_sizes(fields, shapes)
    _check_work(fields, model)
    _check_saved(fields.get("modules_to_save") or (), model, shapes)


def _check_lengths(fields: Mapping[str, Any], modules: int) -> None:
    for field, free in (
        *((name, _FREE_NAMES) for name in ("target_modules", "exclude_modules")),
        *((name, _FREE_NAMES) for name in ("feedforward_modules", "modules_to_save")),
        *((name, MOST_PATTERNS) for name in ("rank_pattern", "alpha_pattern", "layers_pattern")),
    ):
        value = fields.get(field)
        if value is None or isinstance(value, str) or len(value) <= max(free, modules):
            continue
        raise MetroFastError(
            f"{field} in {CONFIG} has {len(value):,} entries, but the adapter has {modules:,} "
            "modules: leave out those that it does not have"
        )


def _check_sizes(fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    largest = max(
        (
            shape[0 if factor.role == "lora_A" else 1]
            for name, shape in shapes.items()
            if (factor := factor_of(name)) is not None and len(shape) > 1
        ),
        default=0,
    )
    ranks = {"r": fields.get("r", 1)} | {
        f"rank_pattern of {shown(repr(key))}": rank
        for key, rank in (fields.get("rank_pattern") or {}).items()
    }
    for field, rank in ranks.items():
        if rank > max(largest, _FREE_RANK):
            raise MetroFastError(
                f"{field} in {CONFIG} is {rank}, but the largest rank of the weights is {largest}: "
                "the two files are not of one adapter"
            )
    tokens = fields.get("trainable_token_indices") or []
    lists = list(tokens.values()) if isinstance(tokens, dict) else [tokens]
    rows = max((shape[0] for shape in shapes.values() if shape), default=0)
    if sum(map(len, lists)) > max(rows, _FREE_RANK) * max(1, min(len(lists), len(shapes))):
        raise MetroFastError(
            f"trainable_token_indices in {CONFIG} has {sum(map(len, lists)):,} tokens, but the "
            f"weights have at most {rows:,} rows: the two files are not of one adapter"
        )
    prompt = (fields.get("num_virtual_tokens") or 1) * (fields.get("token_dim") or 1)
    if fields.get("peft_type") == "PREFIX_TUNING":
        prompt *= fields.get("num_layers") or 1
    elements = sum(map(prod, shapes.values()))
    if prompt > _SUBMODULES * max(elements, _FREE_ELEMENTS):
        raise MetroFastError(
            f"num_virtual_tokens, token_dim and num_layers in {CONFIG} make a prompt of {prompt:,} "
            f"entries, but the weights have {elements:,}: the two files are not of one adapter"
        )


def _check_work(fields: Mapping[str, Any], model: Any) -> None:
    """Count what `re` does on the names of all modules, which differ by the numbers of layers."""
    modules = sum(1 for _ in model.named_modules())
    work = Work(steps=5_000_000 + 2_000 * modules)
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for name, _ in model.named_modules():
        kind = re.sub(r"(?<!\d)\d{1,4}(?!\d)", "0", name)
        kinds[kind] += 1
        if len(name) >= len(examples.get(kind, "")):
            examples[kind] = name
    for field in (
        *("target_modules", "exclude_modules", "feedforward_modules", "layers_pattern"),
        *("modules_to_save", "rank_pattern", "alpha_pattern"),
    ):
        value = fields.get(field)
        if not value or (isinstance(value, set) and field != "modules_to_save"):
            continue  # sets are lists of names, which PEFT compares
        patterns = Patterns(field, [value] if isinstance(value, str) else value, work)
        if not patterns.counted:
            continue
        for kind, times in kinds.items():
            patterns.count(examples[kind], times)


def _check_saved(
    saved: "list[str] | tuple[()]", model: Any, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse to copy modules of the model whose weights the adapter does not have."""
    for name in saved:
        copied = sum(
            sum(parameter.numel() for parameter in module.parameters())
            for path, module in model.named_modules()
            if path == name or path.endswith(f".{name}")
        )
        ours = sum(prod(s) for tensor, s in shapes.items() if f".{name}." in f".{tensor}.")
        if copied > _SUBMODULES * max(ours, _FREE_ELEMENTS):
            raise MetroFastError(
                f"modules_to_save in {CONFIG} names {shown(repr(name))}, of which the model has "
                f"{copied:,} weights and the adapter {ours:,}: the two files are not of one adapter"
            )

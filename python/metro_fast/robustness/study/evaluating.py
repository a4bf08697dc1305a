"""A study of one base and its experts: the base is loaded and hashed once."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._ranks import is_first
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, Task
from metro_fast.robustness.evaluation import evaluate
from metro_fast.robustness.owned import owned_output
from metro_fast.robustness.report import Report
from metro_fast.robustness.study.card import ModelCard
from metro_fast.robustness.study.card_file import write_cards
from metro_fast.robustness.study.study import Study
from metro_fast.robustness.study.swapping import Source, find_source, swapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["evaluate_experts"]


def evaluate_experts(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[Task],
    instructions: Iterable[Instruction],
    experts: Mapping[str, str | Path | Source],
    *,
    base_name: str,
    model_family: str = "",
    with_base: bool = True,
    originals: Mapping[str, str] | None = None,
    merged: Collection[str] = (),
    seen_tasks: Mapping[str, Sequence[str]] | None = None,
    output: str | Path | None = None,
    reload: "Callable[[], PreTrainedModel] | None" = None,
    **options: Any,
) -> Study:
    """Ask a base, and the base with each of several experts, the same cells.

    One base is loaded. Compressed experts of one layout are swapped in an `ExpertPool`, others are
    loaded onto the base and removed again.

    Args:
        model: The base, an encoder-decoder or a causal model without adapters.
        tokenizer: Its tokenizer.
        tasks: As for `evaluate`.
        instructions: As for `evaluate`.
        experts: By the name of the model that it makes: the folder of a compressed expert (or its
            name on the Hub, `hf://owner/name`) or of a plain PEFT adapter.
        base_name: Name of the base.
        model_family: As for `evaluate`, and the family of every card; by default each model counts
            as a family of its own for seen wordings, and the cards have the base's name.
        with_base: Whether to ask the base alone as well.
        originals: By name of a compressed expert the name of the expert at full size that it was
            made from, with which `reference_table(study, "original")` compares it.
        merged: Names of those that are merged from several experts.
        seen_tasks: By name of a model the tasks that it was trained with.
        output: As for `evaluate`; the cards are written there as well.
        reload: Loads the base again, for residuals of whole weights, which cannot be removed.
        **options: Further arguments of `evaluate`.

    Returns:
        The study of these models.

    Raises:
        MetroFastError: If there is nothing to ask, a name is given twice or unknown, or as for
            `evaluate` and `load_expert`.
        FormatError: If an expert is damaged.
        OSError: If an expert is missing, all of which are looked for first, or as for `evaluate`.

    Example:
        >>> study = evaluate_experts(  # doctest: +SKIP
        ...     model,
        ...     tokenizer,
        ...     [task],
        ...     instructions,
        ...     {"full": "lora", "small": "lora-20"},
        ...     base_name="base",
        ...     originals={"small": "full"},
        ... )
        >>> study  # doctest: +SKIP
        <Study of 3 models on 1 tasks in 1 readings>
    """
    originals, seen_tasks = originals or {}, seen_tasks or {}
    names = [*([base_name] if with_base else []), *experts]
    _check_names(names, experts, originals, merged, seen_tasks)
    sources = {name: find_source(path) for name, path in experts.items()}
    instructions = tuple(instructions)
    found: list[tuple[ModelCard, Report]] = []
    model.eval()

    def ask(name: str, network: Any, card: ModelCard) -> None:
        report = evaluate(
            network, tokenizer, tasks, instructions, model_name=name,
            model_family=model_family or name, output=output, **options,
        )  # fmt: skip
        card = replace(card, size=_size(network))
        found.append((card, report))
        if output is not None and is_first():
            write_cards(Path(output), {(card.name, report.model_hash): card})

    with owned_output(output):
        family = model_family or base_name
        if with_base:
            seen = tuple(seen_tasks.get(base_name, ()))
            ask(base_name, model, ModelCard(base_name, family, "base", seen_tasks=seen))
        for name, network in swapped(model, sources, reload=reload) if sources else ():
            card = ModelCard(
                name,
                family,
                _kind(name, sources[name], merged),
                seen_tasks=tuple(seen_tasks.get(name, ())),
                base=None if base_name == name else base_name,
                expert=replace(sources[name].note, original=originals.get(name)),
            )
            ask(name, network, card)
    return Study(found)


def _check_names(
    names: Sequence[str],
    experts: Collection[str],
    originals: Mapping[str, str],
    merged: Collection[str],
    seen_tasks: Mapping[str, Sequence[str]],
) -> None:
    if not names:
        raise MetroFastError(
            "experts is empty and with_base is False: give an expert, or with_base=True"
        )
    if len(set(names)) < len(names):
        raise MetroFastError(
            f"an expert is called {quoted(names[0])}, as the base is: give it another name"
        )
    for label, given in (
        ("originals", originals),
        ("originals", originals.values()),
        ("merged", merged),
    ):
        for name in given:
            if name not in experts:
                raise MetroFastError(
                    f"{label} names {quoted(name)}, which is not an expert here; the experts are "
                    f"{', '.join(experts) or 'none'}"
                )
    for name in seen_tasks:
        if name not in names:
            raise MetroFastError(
                f"seen_tasks names {quoted(name)}, which is not a model here; the models are "
                f"{', '.join(names)}"
            )


def _kind(name: str, source: Source, merged: Collection[str]) -> str:
    if name in merged:
        return "merged"
    return "expert" if source.expert is None else "compressed"


def _size(network: Any) -> int:
    """Number of parameters, those of the expert included."""
    return sum(parameter.numel() for parameter in network.parameters())

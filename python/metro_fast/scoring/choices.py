"""Rank classification: the log-likelihood of each of the given answers under a model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.choice_tokens import check_inputs, choices_by_input
from metro_fast.scoring.engine import Engine
from metro_fast.scoring.protocol import PRESETS, Protocol
from metro_fast.scoring.store import AnswerStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["score_choices"]


class _Question(NamedTuple):
    input: str
    choices: list[str]


def score_choices(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    inputs: Sequence[str],
    choices: Sequence[str] | Sequence[Sequence[str]],
    *,
    preset: str | Protocol = "metro_t0",
    max_input_length: int | None = None,
    max_target_length: int | None = None,
    max_batch_tokens: int = 16384,
    progress: bool = False,
    store: AnswerStore | None = None,
) -> list[list[float]]:
    """Score every choice of every input by its log-likelihood under a model.

    Under the presets `metro_t0` and `t0`, score(k) = Σ_t log p(y_kt | y_k<t, x) over the tokens of
    choice k, the end token included, without length normalization (T0, arXiv 2110.08207; t-zero
    t0/model.py:61-67), with log-softmax in fp32 whatever the model's dtype. `Engine` gives the
    predictions too, and says how scores depend on batches.

    Args:
        model: As for `Engine`.
        tokenizer: The model's tokenizer.
        inputs: At least one text.
        choices: One list for all inputs, or one list for each input.
        preset: A name of `PRESETS`, or a protocol that gives scores.
        max_input_length: Longer inputs are cut, with a logged warning that counts them. Tokens; by
            default the protocol's `max_input_tokens`.
        max_target_length: Longer choices are cut. Tokens, the end token included; by default the
            protocol's `max_target_tokens`.
        max_batch_tokens: As for `Engine`.
        progress: Whether to show a progress bar.
        store: As for `Engine`.

    Returns:
        Scores in nats, or as the protocol normalizes them, `[inputs][choices of that input]`.

    Raises:
        TypeError: If a text is not a string, or lists and strings are mixed in `choices`.
        MetroFastError: If there is nothing to score, the protocol gives no scores, an argument is
            out of its range, or `Engine` raises.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("t5-small")  # doctest: +SKIP
        >>> tokenizer = AutoTokenizer.from_pretrained("t5-small")  # doctest: +SKIP
        >>> score_choices(model, tokenizer, ["Is snow white?"], ["yes", "no"])  # doctest: +SKIP
        [[-1.94, -3.17]]
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise MetroFastError(f"preset is {quoted(preset)}; give one of {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    if preset.generate:
        raise MetroFastError(
            f"the protocol {quoted(preset.name)} lets the model write its answers, which gives no "
            "scores; use Engine.answer"
        )
    for name, limit in (
        ("max_input_length", max_input_length),
        ("max_target_length", max_target_length),
    ):
        if limit is not None and limit < 1:
            raise MetroFastError(f"{name} is {limit}; give at least 1")
    protocol = replace(
        preset,
        max_input_tokens=preset.max_input_tokens if max_input_length is None else max_input_length,
        max_target_tokens=max_target_length or preset.max_target_tokens,
    )
    texts = check_inputs(inputs)
    rows = choices_by_input(choices, len(texts))
    questions = [_Question(text, row) for text, row in zip(texts, rows, strict=True)]
    engine = Engine(
        model, tokenizer, max_batch_tokens=max_batch_tokens, progress=progress, store=store
    )
    outcomes = engine.answer(questions, protocol)
    return [list(outcome.scores or ()) for outcome in outcomes]

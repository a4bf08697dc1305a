"""The loss of a causal model on texts that continue others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from metro_fast.scoring.encoding import encode_prompts
from metro_fast.scoring.engine import Engine
from metro_fast.scoring.model_checks import positions_of
from metro_fast.scoring.protocol import PROTOCOLS


class _Question(NamedTuple):
    input: str
    choices: list[str]


class ContinuedPairs:
    """(input, target) texts of which a causal model reads the first and continues with the second.

    Inputs and targets become tokens as under the protocol `metro_t0`: one space between them, and
    the end-of-sequence token after the target.

    Args:
        tokenizer: The model's tokenizer.
        pairs: (input, target) texts, at least one.
        max_input_length: Longer inputs are cut.
        max_target_length: Longer targets are cut.

    Example:
        >>> ContinuedPairs(None, [("is it red ?", "yes")], max_input_length=64, max_target_length=8)
        ContinuedPairs(1 pairs)
    """

    def __init__(
        self,
        tokenizer: Any,
        pairs: Sequence[tuple[str, str]],
        *,
        max_input_length: int,
        max_target_length: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._questions = [_Question(text, [target]) for text, target in pairs]
        self._protocol = replace(
            PROTOCOLS["metro_t0"],
            max_input_tokens=max_input_length,
            max_target_tokens=max_target_length,
        )

    def __repr__(self) -> str:
        return f"ContinuedPairs({len(self._questions)} pairs)"

    def loss(self, model: Any) -> float:
        """The mean cross-entropy of the tokens of all targets, in nats.

        Args:
            model: A causal model, or a `PeftModel` over one; its flags are left as they were.

        Raises:
            MetroFastError: If a target leaves no room for its input, or the model gives NaN.
        """
        found = Engine(model, self._tokenizer).answer(self._questions, self._protocol)
        return -sum(sum(each.scores or ()) for each in found) / self._tokens(model)

    def _tokens(self, model: Any) -> int:
        """Number of tokens of all targets, as they are scored."""
        encoded = encode_prompts(
            self._tokenizer,
            self._protocol,
            [question.input for question in self._questions],
            [question.choices for question in self._questions],
            causal=True,
            positions=positions_of(model, self._tokenizer),
        )
        return sum(len(each.targets[0]) for each in encoded)

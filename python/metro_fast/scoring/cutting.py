"""Inputs that are too long lose tokens from a named side, and what is lost is counted."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.choice_tokens import input_ids
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Context", "Cutter"]

_logger = logging.getLogger(__name__)


class Context(NamedTuple):
    """The ids of an input, and how many of its tokens were cut."""

    ids: list[int]
    cut_tokens: int


class Cutter:
    """Encodes inputs, and cuts those that are too long.

    Only tokens of the input itself are cut. The special tokens and the wrapper's text stay, since
    without them a model reads another kind of prompt.

    Args:
        tokenizer: The model's tokenizer.
        protocol: Says which side is cut.
        causal: Whether the ids are for a causal model.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", protocol: Protocol, *, causal: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._protocol = protocol
        self._causal = causal

    def __call__(
        self,
        inputs: Sequence[str],
        texts: Sequence[str],
        rooms: Sequence[int],
        choices: Sequence[Sequence[str]],
    ) -> list[Context]:
        """Encode `texts`, which are `inputs` in their wrapper, to at most `rooms` tokens each.

        A warning counts the inputs that were cut, and among them those that named a choice which
        they do not name any more.

        Args:
            inputs: The texts that may be cut.
            texts: The texts that are encoded.
            rooms: Most tokens of each.
            choices: The choices of each.

        Returns:
            The ids of each text.

        Raises:
            MetroFastError: If a text has no tokens, or the wrapper alone needs more than the room.
        """
        contexts = []
        cut = options_lost = 0
        all_ids = input_ids(self._tokenizer, self._protocol, texts, self._causal)
        for index, (ids, room) in enumerate(zip(all_ids, rooms, strict=True)):
            if not ids:
                raise MetroFastError(f"input {index} ({quoted(inputs[index])}) has no tokens")
            short = ids
            if len(ids) > room:
                short = self._cut(index, inputs[index], texts[index], ids, room)
                cut += 1
                options_lost += self._loses_options(ids, short, choices[index])
            contexts.append(Context(short, len(ids) - len(short)))
        if cut:
            _logger.warning(
                "%d of %d inputs are longer than %d tokens and were cut at the %s; %d of them lost "
                "the text of a choice",
                cut, len(contexts), max(rooms), self._protocol.truncation_side, options_lost,
            )  # fmt: skip
        return contexts

    def _cut(self, index: int, text: str, wrapped: str, ids: list[int], room: int) -> list[int]:
        wrapper, excess = self._protocol.wrapper, len(ids) - room
        start = len(wrapper.before)
        end = min(start + len(text), len(wrapped))
        loose = self._loose(wrapped, ids, start, end)
        if len(loose) <= excess:
            raise MetroFastError(
                f"input {index} has {len(ids)} tokens, of which {len(ids) - len(loose)} are the "
                f"wrapper's or special; {room} leave no room for the input: allow more tokens"
            )
        gone = set(loose[:excess] if self._protocol.truncation_side == "left" else loose[-excess:])
        return [token for place, token in enumerate(ids) if place not in gone]

    def _loose(self, text: str, ids: list[int], start: int, end: int) -> list[int]:
        """The places of the tokens that may be cut: those of the characters from start to end."""
        in_wrapper = (start, end) != (0, len(text))
        fast = bool(self._tokenizer.is_fast)
        if in_wrapper and not fast:
            raise MetroFastError(
                "an input in a wrapper is too long, and the tokenizer does not say which tokens "
                "are the wrapper's; use a fast tokenizer, or shorter inputs"
            )
        found = self._tokenizer(
            text,
            add_special_tokens=self._protocol.special_tokens,
            return_special_tokens_mask=True,
            return_offsets_mapping=fast,
            verbose=False,
        )
        # input_ids may have left out a start and an end token.
        shift = 0 if found["input_ids"][: len(ids)] == ids else 1
        special = found["special_tokens_mask"][shift:]
        loose = [place for place in range(len(ids)) if not special[place]]
        if in_wrapper:
            spans = found["offset_mapping"][shift:]
            loose = [p for p in loose if start <= _first(text, *spans[p]) and spans[p][1] <= end]
        return loose

    def _loses_options(self, ids: list[int], short: list[int], choices: Sequence[str]) -> bool:
        before, after = (self._tokenizer.decode(row) for row in (ids, short))
        return any(choice in before and choice not in after for choice in choices)


def _first(text: str, start: int, end: int) -> int:
    """Where a token begins without the white space that some tokenizers count to it."""
    return end - len(text[start:end].lstrip())

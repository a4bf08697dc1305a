"""From the texts of prompts to the token ids that a protocol scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.choice_tokens import continuations, encode_choices
from metro_fast.scoring.cutting import Cutter
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "encode_prompts"]


@dataclass(frozen=True)
class Encoded:
    """The token ids of one prompt.

    Attributes:
        context: The input.
        targets: The scored tokens of each choice; empty if the answer is to be written.
        texts: The choices as they are scored, that is, the letters if the protocol says so.
        cut_tokens: Number of tokens that context and targets lost.
    """

    context: list[int]
    targets: list[list[int]]
    texts: list[str]
    cut_tokens: int


def encode_prompts(
    tokenizer: "PreTrainedTokenizerBase",
    protocol: Protocol,
    inputs: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    causal: bool,
    positions: int,
) -> list[Encoded]:
    """Encode inputs and their choices under a protocol; a warning counts what was cut.

    Args:
        tokenizer: The model's tokenizer.
        protocol: The protocol.
        inputs: The texts, without the wrapper.
        choices: The choices of each input.
        causal: Whether the choices continue the input, or are sequences of their own.
        positions: Most tokens that the model reads at once.

    Returns:
        The ids of each prompt.

    Raises:
        MetroFastError: If an input or a choice has no tokens, a choice leaves no room for the
            input, or a cut makes two choices equal.
    """
    wrapped = [protocol.wrapper.wrap(text) for text in inputs]
    texts = [
        [_letter(k) for k in range(len(row))] if protocol.letters else list(row) for row in choices
    ]
    if protocol.generate:
        targets: list[list[list[int]]] = [[] for _ in inputs]
        read = wrapped
    else:
        separator = _separator(protocol, causal)
        read, tails = _without_final_space(wrapped, separator)
        whole = [
            [tail + (separator or "") + text for text in row]
            for tail, row in zip(tails, texts, strict=True)
        ]
        if protocol.first_token:
            targets = encode_choices(tokenizer, texts, end=False)
        elif causal:
            targets = continuations(tokenizer, protocol, read, whole)
        else:
            targets = encode_choices(tokenizer, whole, end=protocol.target_end)
    kept = [[_cut(ids, protocol) for ids in row] for row in targets]
    _check_distinct(targets, kept, texts)
    rooms = [_room(protocol, row, causal, positions) for row in kept]
    contexts = Cutter(tokenizer, protocol, causal=causal)(inputs, read, rooms, choices)
    lost = [0] * len(kept)
    if not protocol.first_token:
        lost = [
            sum(len(a) - len(b) for a, b in zip(*rows, strict=True))
            for rows in zip(targets, kept, strict=True)
        ]
    return [
        Encoded(context.ids, row, names, context.cut_tokens + count)
        for context, row, names, count in zip(contexts, kept, texts, lost, strict=True)
    ]


def _letter(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _separator(protocol: Protocol, causal: bool) -> str | None:
    """The text between input and choice; None if the choice is encoded on its own."""
    for separator in (protocol.wrapper.separator if causal else None, protocol.separator):
        if separator is not None:
            return separator
    return " " if causal else None


def _without_final_space(texts: list[str], separator: str | None) -> tuple[list[str], list[str]]:
    """The texts, and the white space that moves from their ends to the choices.

    lm-eval does so, because tokenizers join a space with the word after it.
    """
    if separator is None:
        return texts, [""] * len(texts)
    heads = [text.rstrip() or text for text in texts]
    return heads, [text[len(head) :] for text, head in zip(texts, heads, strict=True)]


def _cut(ids: list[int], protocol: Protocol) -> list[int]:
    limit = 1 if protocol.first_token else protocol.max_target_tokens
    if len(ids) <= limit:
        return ids
    return ids[: limit - 1] + ids[-1:] if protocol.target_end else ids[:limit]


def _check_distinct(
    full: list[list[list[int]]], kept: list[list[list[int]]], texts: list[list[str]]
) -> None:
    """Refuse choices that differ only in what was cut: they would tie without any sign of it."""
    for index, (before, after) in enumerate(zip(full, kept, strict=True)):
        if len(set(map(tuple, after))) < len(set(map(tuple, before))):
            first: dict[tuple[int, ...], tuple[str, list[int]]] = {}
            for name, ids, whole in zip(texts[index], after, before, strict=True):
                other, its = first.setdefault(tuple(ids), (name, whole))
                if its != whole:
                    raise MetroFastError(
                        f"input {index}: choices {quoted(other)} and {quoted(name)} are equal in "
                        "their first "
                        f"{len(ids)} tokens, to which they were cut; allow more target tokens"
                    )


def _room(protocol: Protocol, targets: list[list[int]], causal: bool, positions: int) -> int:
    """Most tokens of an input: a causal model reads the longest target but its last token too."""
    limit = positions if protocol.max_input_tokens is None else protocol.max_input_tokens
    if not causal:
        return limit
    longest = protocol.max_new_tokens if protocol.generate else max(map(len, targets), default=1)
    room = positions + 1 - longest
    if room < 1:
        raise MetroFastError(
            f"the model reads {positions} tokens at once, and an answer may have {longest}; lower "
            "max_target_tokens or max_new_tokens"
        )
    return min(room, limit)

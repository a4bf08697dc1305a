"""Check the texts of inputs and choices, and turn them into token ids."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_inputs", "choices_by_input", "continuations", "encode_choices", "input_ids"]


def check_inputs(inputs: Sequence[str]) -> list[str]:
    """Check that there is at least one text, and that all are strings."""
    if isinstance(inputs, str):
        raise TypeError("inputs is one string; give a list of strings")
    texts = list(inputs)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"input {index} is {quoted(text)}; give a string")
    if not texts:
        raise MetroFastError("inputs is empty; give at least 1 text")
    return texts


def choices_by_input(
    choices: Sequence[str] | Sequence[Sequence[str]], count: int
) -> list[list[str]]:
    """Check the choices and give each input its own list."""
    if isinstance(choices, str):
        raise TypeError("choices is one string; give a list of strings")
    rows = list(choices)
    shared = [row for row in rows if isinstance(row, str)]
    own = [list(row) for row in rows if not isinstance(row, str)]
    if shared and own:
        raise TypeError("choices mixes strings and lists; give one list, or one list per input")
    if not rows:
        raise MetroFastError("choices is empty; give at least 1 choice")
    by_input = [shared] * count if shared else own
    if len(by_input) != count:
        raise MetroFastError(
            f"choices has {len(by_input)} lists for {count} inputs; give one list, or one per input"
        )
    for index, row in enumerate(by_input):
        if not row:
            raise MetroFastError(f"input {index} has no choices; give at least 1")
        for choice in row:
            if not isinstance(choice, str):
                raise TypeError(f"input {index}: choice {quoted(choice)} is not a string")
    return by_input


def input_ids(
    tokenizer: "PreTrainedTokenizerBase", protocol: Protocol, texts: Sequence[str], causal: bool
) -> list[list[int]]:
    """Encode inputs, with special tokens if the protocol says so.

    A causal model continues its input, so an end token that the tokenizer appends is left out; and
    a text that begins with the start token, as chat templates write it, does not get a second one.
    """
    encoded = tokenizer(
        list(texts),
        add_special_tokens=protocol.special_tokens,
        return_attention_mask=False,
        verbose=False,
    )
    rows: list[list[int]] = encoded["input_ids"]
    if causal and protocol.special_tokens:
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        for index, row in enumerate(rows):
            if len(row) > 1 and row[-1] == end and not texts[index].endswith(tokenizer.eos_token):
                row = row[:-1]
            if start is not None and row[:2] == [start, start]:
                row = row[1:]
            rows[index] = row
    return rows


def encode_choices(
    tokenizer: "PreTrainedTokenizerBase", choices: Sequence[Sequence[str]], *, end: bool
) -> list[list[list[int]]]:
    """Encode every choice as a sequence of its own, without a start token.

    Args:
        tokenizer: The tokenizer.
        choices: The choices of each input.
        end: Whether the ids end in the end token, which the tokenizer must then append.

    Returns:
        The ids of each choice of each input.

    Raises:
        MetroFastError: If a choice has no tokens, or no end token.
    """
    distinct = list(dict.fromkeys(chain.from_iterable(choices)))
    encoded = tokenizer(
        text_target=distinct, add_special_tokens=end, return_attention_mask=False, verbose=False
    )["input_ids"]
    ids_of: dict[str, list[int]] = {}
    for choice, ids in zip(distinct, encoded, strict=True):
        if end and ids and ids[0] == tokenizer.bos_token_id:
            ids = ids[1:]
        if end and (not ids or ids[-1] != tokenizer.eos_token_id):
            raise MetroFastError(
                f"the tokenizer gives {ids} for {quoted(choice)}, which does not end in its "
                "eos_token "
                f"{quoted(tokenizer.eos_token)}; set one and a post-processor that adds it"
            )
        if len(ids) == end:
            raise MetroFastError(
                f"choice {quoted(choice)} has no tokens besides the end token; give a choice with "
                "words"
            )
        ids_of[choice] = ids
    return [[ids_of[choice] for choice in row] for row in choices]


def continuations(
    tokenizer: "PreTrainedTokenizerBase",
    protocol: Protocol,
    inputs: Sequence[str],
    choices: Sequence[Sequence[str]],
) -> list[list[list[int]]]:
    """Encode every choice as what it adds to the ids of its input (lm-eval's `_encode_pair`).

    Args:
        tokenizer: The tokenizer of a causal model.
        protocol: The protocol.
        inputs: The inputs, without white space at their ends.
        choices: The choices of each input, with the separator before them.

    Returns:
        The ids of each choice of each input.

    Raises:
        MetroFastError: If a choice adds no tokens, or there is no end token to append.
    """
    end = []
    if protocol.target_end:
        if tokenizer.eos_token_id is None:
            raise MetroFastError(
                "the tokenizer has no eos_token to end the choices with; set one, or use a "
                "protocol with target_end=False"
            )
        end = [tokenizer.eos_token_id]
    starts = input_ids(tokenizer, protocol, inputs, causal=True)
    pairs = [text + choice for text, row in zip(inputs, choices, strict=True) for choice in row]
    whole = iter(input_ids(tokenizer, protocol, pairs, causal=True) if pairs else [])
    rows = []
    for index, (start, row) in enumerate(zip(starts, choices, strict=True)):
        rows.append([next(whole)[len(start) :] for _ in row])
        for choice, ids in zip(row, rows[-1], strict=True):
            if not ids:
                raise MetroFastError(
                    f"input {index}: choice {quoted(choice)} adds no tokens to the input; give a "
                    "choice with words"
                )
    return [[ids + end for ids in row] for row in rows]

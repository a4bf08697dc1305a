"""Check the texts of inputs and choices, and turn them into token ids."""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_inputs", "choices_by_input", "encode_choices", "encode_inputs"]

_logger = logging.getLogger(__name__)


def check_inputs(inputs: Sequence[str]) -> list[str]:
    """Check that there is at least one text, and that all are strings."""
    if isinstance(inputs, str):
        raise TypeError("inputs is one string; give a list of strings")
    texts = list(inputs)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"input {index} is {text!r}; give a string")
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
                raise TypeError(f"input {index}: choice {choice!r} is not a string")
    return by_input


def encode_inputs(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], special_tokens: bool, max_length: int
) -> list[list[int]]:
    """Encode every input, cut to `max_length`; a warning counts those that were cut."""
    ids: list[list[int]] = tokenizer(
        texts, add_special_tokens=special_tokens, return_attention_mask=False, verbose=False
    )["input_ids"]
    too_long = sum(len(row) > max_length for row in ids)
    if too_long:
        # The tokenizer cuts them, since it knows which special tokens must survive the cut.
        ids = tokenizer(
            texts,
            add_special_tokens=special_tokens,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )["input_ids"]
        _logger.warning(
            "%d of %d inputs are longer than %d tokens and were cut", too_long, len(ids), max_length
        )
    for index, row in enumerate(ids):
        if not row:
            raise MetroFastError(f"input {index} ({texts[index]!r}) has no tokens")
    return ids


def encode_choices(
    tokenizer: "PreTrainedTokenizerBase", choices: list[list[str]], max_length: int
) -> dict[str, list[int]]:
    """Encode every distinct choice, without a start token and with one end token."""
    distinct = list(dict.fromkeys(chain.from_iterable(choices)))
    encoded = tokenizer(
        text_target=distinct, truncation=True, max_length=max_length, return_attention_mask=False
    )["input_ids"]
    ids_of: dict[str, list[int]] = {}
    for choice, ids in zip(distinct, encoded, strict=True):
        if ids and ids[0] == tokenizer.bos_token_id:
            ids = ids[1:]
        if not ids or ids[-1] != tokenizer.eos_token_id:
            raise MetroFastError(
                f"the tokenizer gives {ids} for {choice!r}, which does not end in its eos_token "
                f"{tokenizer.eos_token!r}; set one and a post-processor that adds it"
            )
        if len(ids) == 1:
            raise MetroFastError(
                f"choice {choice!r} has no tokens besides the end token; give a choice with words"
            )
        ids_of[choice] = ids
    return ids_of

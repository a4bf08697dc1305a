"""Ids that collators read from a tokenizer."""

from typing import Any, NamedTuple

from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter


class Sentinels(NamedTuple):
    """The run of ids `<extra_id_0>`, `<extra_id_1>`, ... of a vocabulary."""

    first: int
    step: int
    number: int


def find_sentinels(tokenizer: Any) -> Sentinels:
    """The sentinels of a T5 tokenizer, which count down, or of one whose sentinels count up.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`, or anything with `get_vocab()`.

    Raises:
        MetroFastError: If it has none, or they are not consecutive.
    """
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = []
    while (token := f"<extra_id_{len(ids)}>") in vocabulary:
        ids.append(vocabulary[token])
    if not ids:
        raise MetroFastError(
            "the tokenizer has no token <extra_id_0>: give sentinel_first, or add sentinels with "
            "tokenizer.add_special_tokens"
        )
    step = ids[1] - ids[0] if len(ids) > 1 else -1
    if abs(step) != 1 or ids != list(range(ids[0], ids[0] + step * len(ids), step)):
        raise MetroFastError(
            f"the sentinels <extra_id_0> to <extra_id_{len(ids) - 1}> of the tokenizer have ids "
            f"{ids[:3]}..., expected consecutive ids"
        )
    return Sentinels(ids[0], step, len(ids))


def find_special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of every special token, sentinels included, ascending."""
    special = set(tokenizer.all_special_ids)
    special.update(
        index for token, index in tokenizer.get_vocab().items() if token.startswith("<extra_id_")
    )
    special.update(
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    )
    return tuple(sorted(special))


def pick(name: str, given: int | None, tokenizer: Any, attribute: str) -> int:
    """The id the caller gave, or else the tokenizer's.

    Raises:
        TypeError: If it is not an integer.
        MetroFastError: If neither has one, or it is negative.
    """
    found = given if given is not None else getattr(tokenizer, attribute, None)
    if found is None:
        raise MetroFastError(f"{name} is None, and no tokenizer has it: give an id")
    return check_counter(name, found)

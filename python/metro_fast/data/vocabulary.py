"""Vocabularies of collators: the ids that the caller gives, and otherwise the tokenizer's."""

from dataclasses import replace
from typing import Any

from metro_fast.data.words import word_starts
from metro_fast.errors import MetroFastError
from metro_fast.ops import Vocabulary
from metro_fast.ops.draws import check_counter


def span_vocabulary(tokenizer: Any = None, **ids: Any) -> Vocabulary:
    """The vocabulary of span corruption: sentinels, EOS and padding of a tokenizer.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`, or anything with `get_vocab()`, `eos_token_id` and
            `pad_token_id`; None if `ids` holds all three.
        **ids: Fields of `Vocabulary`, which take the place of the tokenizer's. If `sentinel_first`
            is one of them, the tokenizer's sentinels are not read.

    Raises:
        MetroFastError: If an id is neither given nor found, or the tokenizer's sentinels are not
            consecutive.

    Example:
        >>> span_vocabulary(sentinel_first=99, eos_token_id=1, pad_token_id=0)
        Vocabulary(sentinel_first=99)
    """
    fields = _given(ids)
    if "sentinel_first" not in fields and tokenizer is not None:
        fields = _find_sentinels(tokenizer) | fields
    fields["sentinel_first"] = _pick("sentinel_first", fields, None)
    for name in ("eos_token_id", "pad_token_id"):
        fields[name] = _pick(name, fields, tokenizer)
    return Vocabulary(**fields)


def mask_vocabulary(tokenizer: Any = None, *, whole_words: bool = False, **ids: Any) -> Vocabulary:
    """The vocabulary of masking: size, mask token, padding and special ids of a tokenizer.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`. If it has no mask token, `<extra_id_0>` takes its
            place, since upstream masks with its first sentinel. None if `ids` holds the size, the
            mask token and the pad id.
        whole_words: Whether to add the tokenizer's table of word starts (see `word_starts`).
        **ids: Fields of `Vocabulary`, which take the place of the tokenizer's. Without a tokenizer,
            the special ids are the mask and pad ids by default.

    Raises:
        MetroFastError: If an id is neither given nor found, or the tokenizer does not mark words.

    Example:
        >>> mask_vocabulary(mask_token_id=3, vocab_size=200, pad_token_id=0)
        Vocabulary(vocab_size=200, mask_token_id=3, special_token_ids=(0, 3))
    """
    fields = _given(ids)
    if "vocab_size" not in fields:
        if tokenizer is None:
            raise MetroFastError(
                "vocab_size is None, and there is no tokenizer that has a size: give vocab_size"
            )
        fields["vocab_size"] = len(tokenizer)
    if "mask_token_id" not in fields and tokenizer is not None:
        fields["mask_token_id"] = _find_mask(tokenizer)
    fields["mask_token_id"] = _pick("mask_token_id", fields, None)
    fields["pad_token_id"] = _pick("pad_token_id", fields, tokenizer)
    if "special_token_ids" not in fields:
        special = {fields["mask_token_id"], fields["pad_token_id"]}
        if tokenizer is not None:
            special |= _find_special_ids(tokenizer)
        fields["special_token_ids"] = sorted(special)
    vocabulary = Vocabulary(**fields)
    return with_words(vocabulary, tokenizer) if whole_words else vocabulary


def with_words(vocabulary: Vocabulary, tokenizer: Any) -> Vocabulary:
    """A vocabulary with a table of word starts: its own, or else the tokenizer's.

    Raises:
        MetroFastError: If it has none, and there is no tokenizer or one that does not mark words.
    """
    if vocabulary.word_starts is not None:
        return vocabulary
    if tokenizer is None:
        raise MetroFastError(
            "whole_words=True needs a tokenizer, or a table of word starts: give "
            "Vocabulary(word_starts=...)"
        )
    return replace(vocabulary, word_starts=word_starts(tokenizer))


def _given(ids: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in ids.items() if value is not None}


def _find_mask(tokenizer: Any) -> int:
    """The mask token, or else the first sentinel."""
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    if "<extra_id_0>" not in tokenizer.get_vocab():
        raise MetroFastError(
            "the tokenizer has neither a mask token nor <extra_id_0>, which takes its place: give "
            "mask_token_id, or add one with tokenizer.add_special_tokens"
        )
    return _find_sentinels(tokenizer)["sentinel_first"]


def _find_sentinels(tokenizer: Any) -> dict[str, int]:
    """The sentinels of a T5 tokenizer, which count down, or of one whose sentinels count up."""
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
    return {"sentinel_first": ids[0], "sentinel_step": step, "num_sentinels": len(ids)}


def _find_special_ids(tokenizer: Any) -> set[int]:
    """Ids of every special token, including the sentinels."""
    special = set(tokenizer.all_special_ids)
    special.update(
        index for token, index in tokenizer.get_vocab().items() if token.startswith("<extra_id_")
    )
    special.update(
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    )
    return special


def _pick(name: str, given: dict[str, Any], tokenizer: Any) -> int:
    """The id that the caller gave, or else the tokenizer's.

    Raises:
        TypeError: If it is not an integer.
        MetroFastError: If neither has one, or it is negative.
    """
    found = given.get(name)
    if found is None:
        found = getattr(tokenizer, name, None)
    if found is None:
        raise MetroFastError(f"{name} is None, and there is no tokenizer with one: give an id")
    return check_counter(name, found)

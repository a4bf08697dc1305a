"""Vocabularies of collators: the ids that the caller gives, and otherwise the tokenizer's."""

from dataclasses import replace
from typing import Any

from metro_fast.data.sentinels import find_sentinels, sentinel_ids
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
            consecutive, or not known.

    Example:
        >>> span_vocabulary(sentinel_first=99, eos_token_id=1, pad_token_id=0)
        Vocabulary(sentinel_first=99)
    """
    fields = _given(ids)
    if "sentinel_first" not in fields and tokenizer is not None:
        found = find_sentinels(tokenizer)
        if found is None:
            raise MetroFastError(
                "the tokenizer has no token <extra_id_0>: give sentinel_first, add sentinels with "
                "tokenizer.add_tokens([f'<extra_id_{i}>' for i in range(100)], "
                "special_tokens=True) and resize the model's embeddings, or use a denoiser with "
                "one mask token (docs/tokenizers.md)"
            )
        fields = found | fields
    fields["sentinel_first"] = _pick("sentinel_first", fields, None)
    for name in ("eos_token_id", "pad_token_id"):
        fields[name] = _pick(name, fields, tokenizer)
    return Vocabulary(**fields)


def mask_vocabulary(tokenizer: Any = None, *, whole_words: bool = False, **ids: Any) -> Vocabulary:
    """The vocabulary of masking: size, mask token, padding and special ids of a tokenizer.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`. If it has no mask token, its first sentinel takes
            its place, as upstream masks with its first sentinel. None if `ids` holds the size, the
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
        fields["vocab_size"] = vocabulary_size(tokenizer)
    if "mask_token_id" not in fields and tokenizer is not None:
        fields["mask_token_id"] = _find_mask(tokenizer)
    fields["mask_token_id"] = _pick("mask_token_id", fields, None)
    fields["pad_token_id"] = _pick("pad_token_id", fields, tokenizer)
    if getattr(tokenizer, "eos_token_id", None) is not None:
        fields.setdefault("eos_token_id", tokenizer.eos_token_id)
    if "special_token_ids" not in fields:
        special = {fields["mask_token_id"], fields["pad_token_id"]}
        if tokenizer is not None:
            special |= _find_special_ids(tokenizer, fields["vocab_size"])
        fields["special_token_ids"] = sorted(special)
    vocabulary = Vocabulary(**fields)
    return with_words(vocabulary, tokenizer) if whole_words else vocabulary


def vocabulary_size(tokenizer: Any) -> int:
    """The number of ids that a model of this tokenizer needs: its largest id + 1.

    That is more than `len(tokenizer)` if some ids have no token.
    """
    ids = tokenizer.get_vocab().values()
    return max(len(tokenizer), max(ids, default=-1) + 1)


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
    found = find_sentinels(tokenizer)
    if found is None:
        raise MetroFastError(
            "the tokenizer has neither a mask token nor <extra_id_0>, which takes its place: give "
            "mask_token_id, or add one with tokenizer.add_special_tokens({'mask_token': '<mask>'}) "
            "and resize the model's embeddings"
        )
    return found["sentinel_first"]


def _find_special_ids(tokenizer: Any, size: int) -> set[int]:
    """Ids of every special token, including the sentinels, and ids without a token."""
    special = set(tokenizer.all_special_ids) | sentinel_ids(tokenizer)
    special.update(
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    )
    if len(tokenizer) < size:
        special.update(set(range(size)).difference(tokenizer.get_vocab().values()))
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
    if found is None and tokenizer is None:
        raise MetroFastError(f"{name} is None, and there is no tokenizer with one: give an id")
    if found is None:
        token = name.removesuffix("_id")
        raise MetroFastError(
            f"{name} is None, and the tokenizer has no {token}: give {name}, or set "
            f"tokenizer.{token} to a token that it has"
        )
    return check_counter(name, found)

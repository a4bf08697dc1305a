"""Where the sentinels of a tokenizer are: the ids with which its checkpoints were pretrained."""

from typing import Any

from metro_fast.errors import MetroFastError

_NAMES = ("\u2581<extra_id_{}>", "<extra_id_{}>", "<|extra_id_{}|>")
"""How vocabularies spell sentinels. mT5's are pieces of its SentencePiece model and begin with its
mark of a word; where a tokenizer was loaded with `extra_ids`, it has others that nobody trained."""

_BYTES = 256
_BYTE_FIRST = 3
"""The id of byte 0 in ByT5's vocabulary, after padding, EOS and the unknown token."""

_NEVER_IN_UTF8 = range(0xFF, 0xF4, -1)
"""The bytes F5 to FF, with which no character of UTF-8 is written; from the last one down."""


def find_sentinels(tokenizer: Any) -> dict[str, int] | None:
    """The sentinels of a tokenizer as fields of a `Vocabulary`, or None if it has none.

    ByT5 was pretrained without tokens of its own for sentinels: T5's rule, the last ids of the
    vocabulary from its end down, gave it the ids of the last bytes, from 258 down. The tokens
    <extra_id_0> to <extra_id_124> of transformers' ByT5Tokenizer, from 259 up, came later and were
    never trained. Of the bytes, only the 11 that UTF-8 never uses cannot be in a text.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`, or anything with `get_vocab()`.

    Raises:
        MetroFastError: If the sentinels are not consecutive, or those of the checkpoints are not
            known.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if _is_bytes(vocabulary, lambda byte: chr(byte)):
        first = _BYTE_FIRST + _NEVER_IN_UTF8[0]
        return {
            "sentinel_first": first,
            "sentinel_step": -1,
            "num_sentinels": len(_NEVER_IN_UTF8),
        }
    if _is_bytes(vocabulary, lambda byte: f"{byte:02x}"):
        raise MetroFastError(
            "the vocabulary of the tokenizer is rewritten bytes, as MyT5's, of which any may be in "
            "a text, and <extra_id_0> was never trained: give "
            "Vocabulary(sentinel_first=..., num_sentinels=...) with ids that no text has"
        )
    for name in _NAMES:
        ids: list[int] = []
        while (index := vocabulary.get(name.format(len(ids)))) is not None:
            ids.append(index)
        if ids:
            return _consecutive(name, ids)
    return None


def sentinel_ids(tokenizer: Any) -> set[int]:
    """The ids of all tokens that are sentinels, or look like them."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    starts = tuple(name.partition("{}")[0] for name in _NAMES)
    ids = {index for token, index in vocabulary.items() if token.startswith(starts)}
    if _is_bytes(vocabulary, lambda byte: chr(byte)):
        ids.update(_BYTE_FIRST + byte for byte in _NEVER_IN_UTF8)
    return ids


def _is_bytes(vocabulary: dict[str, int], spell: Any) -> bool:
    """Whether ids 3 to 258 are the bytes, as in ByT5, spelled in this way."""
    return all(vocabulary.get(spell(byte)) == _BYTE_FIRST + byte for byte in range(_BYTES))


def _consecutive(name: str, ids: list[int]) -> dict[str, int]:
    step = ids[1] - ids[0] if len(ids) > 1 else -1
    if abs(step) != 1 or ids != list(range(ids[0], ids[0] + step * len(ids), step)):
        raise MetroFastError(
            f"the sentinels {name.format(0)} to {name.format(len(ids) - 1)} of the tokenizer have "
            f"ids {ids[:3]}..., expected consecutive ids: give "
            "Vocabulary(sentinel_first=..., sentinel_step=..., num_sentinels=...) of a run"
        )
    return {"sentinel_first": ids[0], "sentinel_step": step, "num_sentinels": len(ids)}

"""Trains a tokenizer that has the special tokens for denoising."""

from collections.abc import Iterable
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

_LARGEST = 1 << 22
_SPECIAL = ("<pad>", "</s>", "<unk>", "<mask>")


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, num_sentinels: int = 100) -> Any:
    """Train a BPE tokenizer on texts.

    Words are split at spaces (Metaspace), punctuation and single digits. `<pad>`, `</s>`, `<unk>`
    and `<mask>` have ids 0 to 3. The sentinels are the last ids and count down, as in T5, so that
    `<extra_id_0>` is `len(tokenizer) - 1`. An encoded text ends with `</s>`.

    Args:
        texts: The texts, which are read once.
        vocab_size: Largest number of ids, including special tokens and sentinels. Small texts may
            need fewer.
        num_sentinels: Number of sentinels; a corrupted row uses one for each span.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.

    Raises:
        MetroFastError: If there is no text, or the letters of the texts do not fit.
        TypeError: If `texts` is a string or holds anything but strings.

    Example:
        >>> tokenizer = train_tokenizer(["one two", "two one"], vocab_size=30, num_sentinels=4)
        >>> tokenizer.decode(tokenizer("one two").input_ids, skip_special_tokens=True)
        'one two'
        >>> len(tokenizer) - tokenizer.convert_tokens_to_ids("<extra_id_0>")
        1
    """
    if isinstance(texts, str):
        raise TypeError("texts is a string, expected an iterable of strings")
    room = check_counter("vocab_size", vocab_size) - check_counter("num_sentinels", num_sentinels)
    if vocab_size > _LARGEST:
        # The trainer allocates memory for all of them at once, and aborts if it cannot.
        raise MetroFastError(f"vocab_size is {vocab_size}, expected at most {_LARGEST}")
    if room <= len(_SPECIAL):
        raise MetroFastError(
            f"vocab_size is {vocab_size}, expected more than the {num_sentinels} sentinels and "
            f"{len(_SPECIAL)} special tokens"
        )
    tokenizers = require("tokenizers", "train")
    transformers = require("transformers", "train")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Metaspace(),
            tokenizers.pre_tokenizers.Punctuation(),
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=room, special_tokens=list(_SPECIAL), show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(map(_text, texts), trainer)
    letters = tokenizer.get_vocab_size()
    if letters == len(_SPECIAL):
        raise MetroFastError("texts holds no text, expected at least one that is not empty")
    if letters > room:
        raise MetroFastError(
            f"vocab_size is {vocab_size}, but the letters of the texts, the special tokens and "
            f"{num_sentinels} sentinels need {letters + num_sentinels}: use a larger vocab_size"
        )
    tokenizer.add_special_tokens([f"<extra_id_{i}>" for i in reversed(range(num_sentinels))])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        clean_up_tokenization_spaces=False,
    )


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"texts holds a {type(text).__name__}, expected strings")
    return text

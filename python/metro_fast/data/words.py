"""Which tokens of a tokenizer start a word."""

from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast.errors import MetroFastError

_SPACES = ("\u0120", "\u010a", "\u0109", "\u010d")
"""How byte-level vocabularies write a space, a line feed, a tab and a carriage return."""


def word_starts(tokenizer: Any) -> npt.NDArray[np.bool_]:
    """For each id of a tokenizer, whether it starts a word: the `word_starts` of a `Vocabulary`.

    SentencePiece and Metaspace begin the first token of a word with "▁", byte-level vocabularies
    (GPT-2, RoBERTa) with "Ġ", and WordPiece (BERT) begins the other ones with "##". The mark that
    most tokens have decides. Special and added tokens start a word. With "▁" and "Ġ" punctuation
    belongs to the word before it, as in fairseq; with "##" it is a word of its own, as in BERT.

    Args:
        tokenizer: A `PreTrainedTokenizerBase`, or anything with `get_vocab()`, `all_special_ids`
            and `added_tokens_decoder`.

    Returns:
        bool [largest id + 1]. Ids without a token start a word.

    Raises:
        MetroFastError: If the tokens mark the ends of words, or neither starts nor ends.

    Example:
        >>> from metro_fast.data import train_tokenizer
        >>> tokenizer = train_tokenizer(["one two two", "two one"], vocab_size=30, num_sentinels=4)
        >>> tokenizer.tokenize("two onto")
        ['▁two', '▁', 'o', 'n', 't', 'o']
        >>> word_starts(tokenizer)[tokenizer("two onto", add_special_tokens=False).input_ids]
        array([ True,  True, False, False, False, False])
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    own = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    tokens = {index: token for token, index in vocabulary.items() if index not in own}
    kind = _kind(list(tokens.values()))
    table = np.ones(max([*vocabulary.values(), *own], default=-1) + 1, np.bool_)
    for index, token in tokens.items():
        if kind == "##":
            table[index] = not token.startswith("##")
        else:
            table[index] = token.startswith("\u2581" if kind == "\u2581" else _SPACES)
    return table


def _kind(tokens: list[str]) -> str:
    """The mark that most tokens have: ▁, Ġ or ##.

    Raises:
        MetroFastError: If it is another.
    """
    counts = {
        "</w>": sum(token.endswith("</w>") for token in tokens),
        "\u2581": sum(token.startswith("\u2581") for token in tokens),
        "\u0120": sum(token.startswith("\u0120") for token in tokens),
        "##": sum(token.startswith("##") for token in tokens),
    }
    kind = max(counts, key=lambda mark: counts[mark])
    if counts[kind] == 0 or kind == "</w>":
        found = "mark the ends of words (</w>)" if counts[kind] else "do not mark words"
        raise MetroFastError(
            f"the tokens of the tokenizer {found}, expected starts (▁ or Ġ) or continuations (##): "
            "give Vocabulary(word_starts=...), for each id whether it starts a word"
        )
    return kind

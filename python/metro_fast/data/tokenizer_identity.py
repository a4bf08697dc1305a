"""Whether a tokenizer is the one that a corpus was made with."""

import hashlib
import json
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._pretrained import has_tokenizer, load_tokenizer
from metro_fast._shown import quoted
from metro_fast.data.prepare_folder import RECORD, read_record
from metro_fast.errors import MetroFastError

__all__ = [
    "check_corpus_tokenizer",
    "check_model_tokenizer",
    "plain_backend",
    "tokenizer_sha256",
]


def plain_backend(fast: Any) -> Any:
    """A copy of the Rust tokenizer that neither truncates nor pads, unlike perhaps the original."""
    backend = require("tokenizers", "train").Tokenizer.from_str(fast.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenizer_sha256(tokenizer: Any) -> str:
    """The hash by which `prepare` records a tokenizer.

    Args:
        tokenizer: A tokenizer of transformers. Of a slow one, the class, the tokens and their ids
            are hashed, but not the code.

    Example:
        >>> from metro_fast.data import train_tokenizer
        >>> len(tokenizer_sha256(train_tokenizer(["a b"], vocab_size=20, num_sentinels=2)))
        64
    """
    if getattr(tokenizer, "is_fast", False):
        text = plain_backend(tokenizer).to_str()
    else:
        tokens = sorted(tokenizer.get_vocab().items())
        special = sorted(tokenizer.all_special_tokens)
        text = json.dumps([type(tokenizer).__name__, tokens, special])
    return hashlib.sha256(text.encode()).hexdigest()


def check_corpus_tokenizer(corpus: Path, tokenizer: Any) -> bool:
    """Refuse a tokenizer that gives the ids of a corpus another meaning.

    The tokenizer may have more added tokens than the corpus's, such as the mode tokens of UL2: they
    change no id that the corpus holds.

    Args:
        corpus: Folder of a corpus, with the `prepare.json` and `tokenizer` that `prepare` writes.
        tokenizer: The tokenizer that is to be used with it.

    Returns:
        Whether the corpus says which tokenizer made it; if not, nothing was compared.

    Raises:
        MetroFastError: If another tokenizer made the corpus.
        FormatError: If the record of the corpus is damaged.
        OSError: If a file cannot be read.
    """
    recorded = _recorded_sha256(corpus)
    own = corpus / "tokenizer"
    if recorded is None and not has_tokenizer(own):
        return False
    given = tokenizer_sha256(tokenizer)
    if given == recorded:
        return True
    if not getattr(tokenizer, "is_fast", False):
        raise MetroFastError(
            f"the tokenizer is a {type(tokenizer).__name__}, which cannot be compared with the one "
            f"that made {corpus}: give the tokenizer in {own}, or prepare the text again"
        )
    if has_tokenizer(own):
        original = load_tokenizer(own)
        same = recorded in (None, tokenizer_sha256(original))
        if same and getattr(original, "is_fast", False) and _extends(tokenizer, original):
            return True
    made_by = "" if recorded is None else f" (sha256 {recorded[:12]}..., and here {given[:12]}...)"
    place = f" ({own})" if has_tokenizer(own) else ""
    raise MetroFastError(
        f"the corpus {corpus} was made with another tokenizer{made_by}: its ids would mean other "
        f"tokens; give the tokenizer that made it{place}, or prepare the text again"
    )


def check_model_tokenizer(model: str | Path, tokenizer: Any) -> bool:
    """Refuse a tokenizer that gives the ids of a saved model another meaning.

    Only ids that both tokenizers have are compared, since either may have added tokens, such as a
    mask token in the unused end of the embeddings. Merges are not: tokens keep their meaning
    however a text is cut into them.

    Args:
        model: Folder of a model, or its name on the Hub.
        tokenizer: The tokenizer that is to be used with it.

    Returns:
        Whether a tokenizer was found beside the model; if not, nothing was compared.

    Raises:
        MetroFastError: If an id that both tokenizers have means another token in each.
        FormatError: If the model's tokenizer is damaged.
    """
    try:
        loaded = load_tokenizer(model)
    except OSError:  # There is a model at this place, so it is the tokenizer that is not there.
        return False
    theirs = {number: token for token, number in loaded.get_vocab().items()}
    ours = {number: token for token, number in tokenizer.get_vocab().items()}
    shared = sorted(ours.keys() & theirs.keys())
    differing = [number for number in shared if ours[number] != theirs[number]]
    if not differing:
        return True
    first = differing[0]
    raise MetroFastError(
        f"the tokenizer is not that of the model at {model}: {len(differing)} of the {len(shared)} "
        f"ids of both mean other tokens, the first of them id {first}, which is "
        f"{quoted(theirs[first])} "
        f"to the model and {quoted(ours[first])} to the tokenizer; prepare the corpus with the "
        "model's tokenizer"
    )


def _recorded_sha256(corpus: Path) -> str | None:
    if not (corpus / RECORD).is_file():
        return None
    value = read_record(corpus).get("tokenizer_sha256")
    return value if isinstance(value, str) else None


def _extends(tokenizer: Any, original: Any) -> bool:
    """Whether a tokenizer is the original one, perhaps with more added tokens."""
    parts = [json.loads(plain_backend(each).to_str()) for each in (tokenizer, original)]
    added = [
        {(token["id"], token["content"]) for token in part.pop("added_tokens")} for part in parts
    ]
    return parts[0] == parts[1] and added[0] >= added[1]

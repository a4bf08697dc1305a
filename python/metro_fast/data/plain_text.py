"""Tokenizers as `prepare` uses them: a text is only text, and the template stays around it."""

import hashlib
import json
import logging
import re
from typing import Any, NamedTuple

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.data.tokenizer_identity import plain_backend
from metro_fast.errors import MetroFastError

_logger = logging.getLogger(__name__)

# Names of tokens that steer a model, in every family: sentinels are often neither special nor
# added, but pieces of the vocabulary.
_SENTINEL = re.compile(r"[▁Ġ]?<(extra_id|sentinel|mask|unk|special|unused)_?\d+>")
_CONTROL = re.compile(
    r"[▁Ġ]?(<(pad|s|/s|unk|mask|sep|cls|bos|eos|eod|eot)>|<\|[^\s<>|]+\|>"
    r"|\[(PAD|CLS|SEP|UNK|MASK|BOS|EOS|unused\d+)\])",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"[▁Ġ]?[<\[{(|].+[>\]})|]", re.DOTALL)
_BYTE = r"<(?=0x[0-9A-F]{2}>)"
# Letters of no vocabulary, with which to see what becomes of such.
_UNKNOWN = ("\U000f1234", "\ue123", "\U00012345")


class Template(NamedTuple):
    """The ids around each document."""

    front: list[int]
    eos: int


class SlowText:
    """A tokenizer of Python, with the one method of the Rust tokenizers that datatrove calls.

    Args:
        tokenizer: A tokenizer of transformers that is not fast.
        template: The ids around each document.
    """

    def __init__(self, tokenizer: Any, template: Template) -> None:
        self._tokenizer, self._template = tokenizer, template

    def encode_batch(self, texts: list[str]) -> list["Ids"]:
        """The ids of each text."""
        plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        front, eos = self._template
        return [Ids([*front, *self._tokenizer(text, **plain).input_ids, eos]) for text in texts]

    def get_vocab(self) -> dict[str, int]:
        """Ids by token."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary


class Ids(NamedTuple):
    """Ids of a document."""

    ids: list[int]


def slow_backend(tokenizer: Any, eos: int) -> tuple[SlowText, Template]:
    """A slow tokenizer as datatrove calls it; ByT5's takes twice as long as a Rust one.

    Args:
        tokenizer: The tokenizer.
        eos: Id that ends a document.

    Returns:
        It, and the ids around each document.
    """
    inside = -1  # the id of a text
    built = tokenizer.build_inputs_with_special_tokens([inside])
    place = built.index(inside)
    _warn_behind(tokenizer, built[place + 1 :], eos)
    template = Template(built[:place], eos)
    return SlowText(tokenizer, template), template


def text_backend(fast: Any, eos: int) -> tuple[Any, Template]:
    """A Rust tokenizer for which every text is only text, between the ids of a template.

    Tokens that steer a model get names that no text holds, so that `</s>` in a text is the letters
    `<`, `/`, `s` and `>`, however the vocabulary is laid out. No id changes.

    Args:
        fast: A fast tokenizer of transformers.
        eos: Id that ends a document.

    Returns:
        The Rust tokenizer, and the ids around each document.

    Raises:
        MetroFastError: If an unknown letter becomes `eos`.
    """
    tokenizers = require("tokenizers", "train")
    original = plain_backend(fast)
    template = Template(*_around(tokenizers, fast, original, eos))
    values = json.loads(original.to_str())
    _rename(values, _control_tokens(fast, values, original.id_to_token(eos)))
    backend = tokenizers.Tokenizer.from_str(json.dumps(values))
    if values["model"]["type"] == "Unigram" and values["model"].get("byte_fallback"):
        # The pieces of single bytes keep their names, by which the model finds them.
        pattern = tokenizers.Regex(_BYTE)
        split = tokenizers.pre_tokenizers.Split(pattern, behavior="isolated")
        before = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([*before, split])
    names = [f"front{i}" for i in range(len(template.front))]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=[*names, "$A", "end"],
        special_tokens=[*zip(names, template.front, strict=True), ("end", eos)],
    )
    body = [backend.encode(text, add_special_tokens=False).ids for text in _UNKNOWN]
    if any(eos in ids for ids in body):
        raise MetroFastError(
            f"unknown letters become {quoted(original.id_to_token(eos))}, which ends documents: "
            "give another eos_token"
        )
    if not all(body):
        _logger.warning("the tokenizer drops letters that its vocabulary does not have")
    return backend, template


def _around(tokenizers: Any, fast: Any, backend: Any, eos: int) -> tuple[list[int], int]:
    """The ids that the tokenizer's template puts in front of a text, and the end of a document."""
    letter = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    built = backend.post_process(letter.encode("a"))
    place = built.sequence_ids.index(0)
    _warn_behind(fast, built.ids[place + 1 :], eos)
    return built.ids[:place], eos


def _warn_behind(tokenizer: Any, behind: list[int], eos: int) -> None:
    if behind not in ([], [eos]):
        _logger.warning(
            "the tokenizer's template puts %s behind a text, and a document ends with %s instead",
            tokenizer.convert_ids_to_tokens(behind),
            tokenizer.convert_ids_to_tokens(eos),
        )


def _control_tokens(fast: Any, values: dict[str, Any], eos: str) -> set[str]:
    """The tokens that no text may become.

    A special token that is also a letter or a word of texts (some pad with `!`) is not among them.
    """
    model = values["model"]
    pairs = model["vocab"] if isinstance(model["vocab"], list) else model["vocab"].items()
    pieces = {token for token, _ in pairs}
    added = {token["content"] for token in values["added_tokens"]}
    # Merges make a token from letters, and what Unigram learned has the logarithm of a frequency.
    merged = {left + right for left, right in _merges(model)}
    scored = {token for token, score in pairs if isinstance(model["vocab"], list) and score < 0}
    special = {str(token) for token in fast.all_special_tokens} | {eos}
    special |= {token["content"] for token in values["added_tokens"] if token["special"]}
    control = {
        token
        for token in special
        if _BRACKETS.fullmatch(token) or (len(token) > 1 and token not in merged | scored)
    }
    # A BPE token of such a name that is not added was learned, for instance from HTML.
    control |= {p for p in pieces | added if _CONTROL.fullmatch(p) and p not in merged - added}
    return control | {p for p in pieces | added if _SENTINEL.fullmatch(p)}


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges") or ())
    return [(left, right) for left, right in pairs]


def _rename(values: dict[str, Any], control: set[str]) -> None:
    """Give control tokens names that no text holds, in the model and among the added tokens."""
    model = values["model"]
    key = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    names = {token: f"\U0010ffff{key} {i}" for i, token in enumerate(sorted(control))}
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
        if model.get("unk_token") is not None:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if model.get("merges"):
        model["merges"] = [
            [left, right]
            for left, right in _merges(model)
            if not names.keys() & {left, right, left + right}
        ]
    for token in values["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False}

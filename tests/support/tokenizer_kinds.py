"""Tokenizers of many layouts, built on the spot from the letters and words of a few texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import (
    BertProcessing,
    ByteLevel,
    RobertaProcessing,
    Sequence,
    TemplateProcessing,
)
from transformers import PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789<>/|_[]"
WORDS = ["one", "two", "three"]
# One of each way to write a token that steers a model.
CONTROL = ["</s>", "<extra_id_0>", "<mask>", "<|im_end|>", "<s>", "<pad>", "<unk>", "[SEP]"]
NAMELESS = "\ufffe"  # an unknown token that no text is
TEXT = "one </s> two<extra_id_0> <mask>three <|im_end|> <s> <pad>[SEP] <unk></s>"


def _fast(backend: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **special
    )


def unigram(
    control: list[str], *, sentinel: str = "<extra_id_0>", byte_fallback: bool = False
) -> Any:
    """T5's: control tokens are pieces of score 0, in front and at the end."""
    names = [sentinel if name == "<extra_id_0>" else name for name in control]
    front = [name for name in ("<pad>", "</s>", "<unk>", NAMELESS) if name in names]
    pieces = [("▁", -3.0), *((f"▁{word}", -4.0) for word in WORDS), *((c, -5.0) for c in LETTERS)]
    if byte_fallback:
        pieces += [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    rest = [(name, 0.0) for name in names if name not in front]
    vocabulary = [*((name, 0.0) for name in front), *pieces, *rest]
    unknown = len(front) - 1
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=byte_fallback))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def word_level(control: list[str]) -> Any:
    """Words between spaces."""
    tokens = [*control, *WORDS, "?"]
    backend = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def word_piece(control: list[str]) -> Any:
    """BERT's pieces between spaces."""
    tokens = ["?", *control, *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def byte_bpe(control: list[str], *, ignore_merges: bool = False) -> Any:
    """GPT-2's and Llama 3's bytes; all of Llama 3's words are looked up whole."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "on", "one", *control]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("o", "n"), ("on", "e")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def added(build: Callable[[list[str]], Any], *, special: bool) -> Callable[[list[str]], Any]:
    """The same, but the control tokens are added behind the vocabulary."""

    def make(control: list[str]) -> Any:
        backend = build([NAMELESS if NAMELESS in control else "<unk>"] if build is unigram else [])
        control = [name for name in control if name != NAMELESS]
        backend.add_tokens(
            [AddedToken(name, special=special, normalized=not special) for name in control]
        )
        return backend

    return make


# Layouts of sentinels and other control tokens. Each is a function of the control tokens.
LAYOUTS: dict[str, Callable[[list[str]], Any]] = {
    "unigram": unigram,
    "unigram of mT5": lambda control: unigram(control, sentinel="▁<extra_id_0>"),
    "unigram, bytes": lambda control: unigram(control, byte_fallback=True),
    "unigram, special": added(unigram, special=True),
    "unigram, added": added(unigram, special=False),
    "words": word_level,
    "word pieces": word_piece,
    "words, added": added(word_level, special=False),
    "bytes": byte_bpe,
    "bytes, whole words": lambda control: byte_bpe(control, ignore_merges=True),
    "bytes, special": added(byte_bpe, special=True),
    "bytes, added": added(byte_bpe, special=False),
}


def in_layout(layout: str) -> Any:
    """A tokenizer of transformers whose EOS is `</s>`."""
    backend = LAYOUTS[layout](CONTROL)
    if layout == "unigram":  # as T5's files have it: some of the pieces are added too
        backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return _fast(backend, eos_token="</s>")


def tokens_without_control(layout: str, text: str) -> list[str]:
    """The tokens of the same letters and words without control tokens, even of their names."""
    nameless = layout.startswith("unigram")
    backend = LAYOUTS[layout]([NAMELESS] if nameless else [])
    found = [backend.id_to_token(index) for index in backend.encode(text).ids]
    return ["<unk>" if token == NAMELESS else token for token in found]


def with_template(kind: str) -> Any:
    """Tokenizers whose template puts tokens around a text, in all the ways there are."""
    backend = word_level(["<s>", "</s>", "[CLS]", "[SEP]"])
    ids = backend.get_vocab()
    pair = {name: (name, ids[name]) for name in ("<s>", "</s>", "[CLS]", "[SEP]")}
    processors = {
        "llama": TemplateProcessing(single="<s> $A", special_tokens=[pair["<s>"]]),
        "bart": RobertaProcessing(pair["</s>"], pair["<s>"]),
        "bert": BertProcessing(pair["[SEP]"], pair["[CLS]"]),
        "llama 3": Sequence(
            [ByteLevel(), TemplateProcessing(single="<s> $A", special_tokens=[pair["<s>"]])]
        ),
        "two in front": TemplateProcessing(
            single="[CLS] <s> $A </s>", special_tokens=[pair["[CLS]"], pair["<s>"], pair["</s>"]]
        ),
        "t5": TemplateProcessing(single="$A </s>", special_tokens=[pair["</s>"]]),
        "gpt-2": ByteLevel(),
        "none": None,
        "language behind": TemplateProcessing(
            single="$A </s> [CLS]", special_tokens=[pair["</s>"], pair["[CLS]"]]
        ),
    }
    if processors[kind] is not None:
        backend.post_processor = processors[kind]
    return _fast(backend, eos_token="[SEP]" if kind == "bert" else "</s>")


def save_as(tokenizer: Any, declared: str, folder: Path) -> Path:
    """Save a tokenizer with another class in its config."""
    tokenizer.save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    values = {**json.loads(config.read_bytes()), "tokenizer_class": declared}
    config.write_text(json.dumps(values))
    return folder


def t5_like(front: list[str]) -> Any:
    """A Unigram tokenizer with these tokens in front, as SentencePiece trains it."""
    pieces = [("▁", -2.0), *((c, -4.0) for c in LETTERS)]
    vocabulary = [*((name, 0.0) for name in front), *pieces]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=front.index("<unk>")))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return _fast(backend, unk_token="<unk>", eos_token="</s>")

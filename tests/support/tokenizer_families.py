"""Tokenizers with the layouts of published families, built on the spot, and the table of the docs.

python tests/support/tokenizer_families.py --write docs/tokenizers.md
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BEGIN = "<!-- tokenizers: made by tests/support/tokenizer_families.py -->"
END = "<!-- end of tokenizers -->"


@dataclass(frozen=True)
class Family:
    """A family as its own sources describe it, and a tokenizer that has its layout.

    Attributes:
        name: The family, as the docs call it.
        build: Makes the tokenizer.
        size: Largest id + 1.
        sentinels: Id of the first sentinel, step and number; None if it has none.
        mask: The id that METRO masks with; None if it has none.
        pad: Id of padding, or None.
        eos: Id of the end of a text, or None.
    """

    name: str
    build: Callable[[], Any]
    size: int
    sentinels: tuple[int, int, int] | None
    mask: int | None
    pad: int | None
    eos: int | None


def pieces(count: int) -> list[str]:
    """Words of a vocabulary."""
    return [f"\u2581w{number}" for number in range(count)]


def down(count: int, name: str = "<extra_id_{}>") -> list[str]:
    """Sentinels in the order of ids that count down."""
    return [name.format(number) for number in reversed(range(count))]


def sentence_piece(tokens: Iterable[str], extra_ids: int) -> Any:
    """T5Tokenizer over the pieces of a SentencePiece model."""
    from transformers import T5Tokenizer

    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((t, -5.0) for t in tokens)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=extra_ids)


def byte_pairs(kind: str, special: dict[str, int], size: int, **options: Any) -> Any:
    """A tokenizer of byte pairs whose special tokens have given ids, and words the others."""
    import transformers

    taken = set(special.values())
    free = (index for index in range(size) if index not in taken)
    words = ["x", "\u2581", "\u0120", *pieces(size)]
    vocabulary = special | dict(zip(words, free, strict=False))
    made: Any = getattr(transformers, kind)(vocab=vocabulary, merges=[], **options)
    return made


@cache
def t5() -> Any:
    """32,000 pieces, and 100 sentinels that transformers puts behind them."""
    return sentence_piece([*pieces(31_997), *down(100)], 100)


@cache
def mt5() -> Any:
    """250,100 pieces, of which the last 100 are the sentinels: huggingface/transformers 22626."""
    return sentence_piece([*pieces(249_997), *down(100, "\u2581<extra_id_{}>")], 0)


@cache
def umt5() -> Any:
    """256,000 pieces and 300 sentinels: t5x/examples/scalable_t5/umt5/vocab.gin."""
    return sentence_piece([*pieces(255_997), *down(300)], 300)


@cache
def byt5() -> Any:
    """Padding, EOS, the unknown token and 256 bytes; transformers adds 125 tokens."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


@cache
def code_t5() -> Any:
    """Byte pairs of code, with 100 sentinels behind them that count down.

    The first five ids and the 32,000 pairs: train_tokenizer.py of salesforce/CodeT5, whose
    models.py reads them as a RobertaTokenizer. The sentinels are not in that repository, only in
    the files of the checkpoints.
    """
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    return byte_pairs("RobertaTokenizer", special, 32_000, extra_special_tokens=down(100))


@cache
def bart() -> Any:
    """GPT-2's byte pairs behind four special tokens, and the mask as the last id.

    fairseq's tasks/denoising.py adds `<mask>` to the dictionary when it is loaded, so that it
    comes last; the size and the ids are those of transformers' BartConfig.
    """
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 50_264}
    return byte_pairs("RobertaTokenizer", special, 50_265)


@cache
def pegasus() -> Any:
    """96,103 ids: masks of sentences and of words, and reserved tokens, behind padding and EOS.

    The shift of 103 ids behind the first two: pegasus/ops/sp_text_encoder.h of
    google-research/pegasus; their names: transformers' tokenization_pegasus.py.
    """
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    reserved = ["<mask_1>", "<mask_2>", *(f"<unk_{number}>" for number in range(2, 103))]
    tokens = ["<pad>", "</s>", *reserved, "<unk>", *pieces(96_103 - 106)]
    backend = Tokenizer(models.Unigram([(token, -5.0) for token in tokens], unk_id=105))
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask_2>",
        extra_special_tokens=reserved,
    )


@cache
def t5_gemma() -> Any:
    """Gemma's vocabulary."""
    special = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
    return byte_pairs("GemmaTokenizer", special, 256_000, add_bos_token=True)


@cache
def bert() -> Any:
    """Word pieces with 99 unused ids behind padding."""
    from transformers import BertTokenizer

    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    taken = set(special.values())
    words = {f"w{index}": index for index in range(30_522) if index not in taken}
    return BertTokenizer(vocab=special | words)


@cache
def gpt2() -> Any:
    """Byte pairs, and one special token behind them."""
    return byte_pairs("GPT2Tokenizer", {"<|endoftext|>": 50_256}, 50_257)


@cache
def llama() -> Any:
    """Three special tokens before the others.

    32,000 ids, `<s>` 1 and `</s>` 2, without padding: transformers' LlamaConfig.
    """
    return new_llama()


def new_llama() -> Any:
    """A new tokenizer, which may be changed."""
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    return byte_pairs("LlamaTokenizer", special, 32_000, add_bos_token=True)


@cache
def llama_with_sentinels() -> Any:
    """The same after the user has added what is missing."""
    tokenizer = new_llama()
    tokenizer.add_special_tokens(
        {
            "pad_token": "<pad>",
            "extra_special_tokens": [f"<extra_id_{number}>" for number in range(100)],
        }
    )
    return tokenizer


FAMILIES = (
    Family(
        "T5, T5 v1.1, FLAN-T5, T0, LongT5, Switch, UL2, Flan-UL2, nanoT5",
        t5, 32_100, (32_099, -1, 100), 32_099, 0, 1,
    ),
    Family("mT5", mt5, 250_100, (250_099, -1, 100), 250_099, 0, 1),
    Family("umT5", umt5, 256_300, (256_299, -1, 300), 256_299, 0, 1),
    Family("ByT5", byt5, 384, (258, -1, 11), 258, 0, 1),
    Family("CodeT5, CodeT5+ (220m, 770m)", code_t5, 32_100, (32_099, -1, 100), 4, 0, 2),
    Family("BART", bart, 50_265, None, 50_264, 1, 2),
    Family("PEGASUS", pegasus, 96_103, None, 3, 0, 1),
    Family("T5Gemma", t5_gemma, 256_000, None, 4, 0, 1),
    Family("BERT", bert, 30_522, None, 103, 0, None),
    Family("GPT-2", gpt2, 50_257, None, None, None, 50_256),
    Family("LLaMA 1, 2", llama, 32_000, None, None, None, 2),
    Family(
        "LLaMA with 100 sentinels added",
        llama_with_sentinels, 32_101, (32_001, 1, 100), 32_001, 32_000, 2,
    ),
)  # fmt: skip


def table() -> str:
    """The table of the docs."""
    lines = [
        "| tokenizer | ids | sentinels | METRO's mask | padding, EOS | put around a text |",
        "|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        around = _around(family.build())
        cells = (
            family.name,
            f"{family.size:,}",
            _span(family.sentinels),
            _number(family.mask),
            f"{_number(family.pad)}, {_number(family.eos)}",
            " ".join(around) or "nothing",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _around(tokenizer: Any) -> list[str]:
    """The tokens that the tokenizer puts before and after a text."""
    bare = tokenizer("x", add_special_tokens=False)["input_ids"]
    whole = tokenizer("x")["input_ids"]
    first = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    parts = [whole[:first], whole[first + len(bare) :]]
    before, after = (" ".join(f"`{tokenizer.decode([i])}`" for i in part) for part in parts)
    return [text for text in (before and f"{before} before", after and f"{after} after") if text]


def _span(sentinels: tuple[int, int, int] | None) -> str:
    if sentinels is None:
        return "none"
    first, step, count = sentinels
    way = "down" if step < 0 else "up"
    return f"{first} {way} to {first + step * (count - 1)}"


def _number(value: int | None) -> str:
    return "none" if value is None else str(value)


def page_with_table(page: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        target = Path(sys.argv[2])
        target.write_text(page_with_table(target.read_text("utf-8")), "utf-8")
    else:
        print(table())

"""prepare: every tokenizer that can be named, and a text that is only text for each of them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, PerceiverTokenizer
from typer.testing import CliRunner

from fake_hub import serving
from metro_fast.cli.prepare import app
from metro_fast.data import TokenCorpus, finish_prepare, prepare, prepare_pipeline
from metro_fast.data.tokenizer_identity import check_corpus_tokenizer
from metro_fast.errors import FormatError, MetroFastError
from tokenizer_kinds import (
    CONTROL,
    LAYOUTS,
    TEXT,
    in_layout,
    save_as,
    t5_like,
    tokens_without_control,
    with_template,
)


def ids_of(text: str, tokenizer: Any, folder: Path, **options: Any) -> list[int]:
    """The ids of a corpus of one document."""
    (folder / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    prepare(folder / "a.jsonl", folder / "out", tokenizer, progress=False, **options)
    found: list[int] = TokenCorpus(folder / "out", block_size=10**6)[0]["input_ids"].tolist()
    return found


# A text is only text.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_control_tokens_in_a_text_are_letters(layout: str, tmp_path: Path) -> None:
    """The tokens are those of the same tokenizer without any control token."""
    tokenizer = in_layout(layout)
    ids = ids_of(TEXT, tokenizer, tmp_path)
    found = tokenizer.convert_ids_to_tokens(ids)
    assert found == [*tokens_without_control(layout, TEXT), "</s>"]
    assert not set(found[:-1]) & ({*CONTROL, "▁<extra_id_0>"} - {"<unk>"})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_text_without_them_has_the_ids_of_the_tokenizer(layout: str, tmp_path: Path) -> None:
    tokenizer = in_layout(layout)
    text = "one two three onetwo 42"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids_of(text, tokenizer, tmp_path) == [*ids, tokenizer.eos_token_id]


def test_a_byte_spelled_out_is_not_that_byte(tmp_path: Path) -> None:
    tokenizer = in_layout("unigram, bytes")
    tokens = tokenizer.convert_ids_to_tokens(ids_of("a<0x41>b é", tokenizer, tmp_path))
    assert tokens == ["▁", "a", "<", "0", "x", "4", "1", ">", "b", "▁", "<0xC3>", "<0xA9>", "</s>"]
    (tmp_path / "2").mkdir()
    tokens = tokenizer.convert_ids_to_tokens(ids_of("A", tokenizer, tmp_path / "2"))
    assert tokens == ["▁", "<0x41>", "</s>"]  # a letter that the vocabulary does not have


def test_pieces_that_were_learned_from_markup_stay(tmp_path: Path) -> None:
    """A BPE model that saw HTML may have merged `<s>`, which is then a word and no control."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<", "s", ">", "<s", "<s>", "<eos>"])}
    model = models.BPE(vocab=vocabulary, merges=[("<", "s"), ("<s", ">")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="<eos>")
    assert ids_of("<s>s", tokenizer, tmp_path) == [4, 1, 5]


@pytest.mark.parametrize("special", ["!", "on", "one"])
def test_a_special_token_that_is_a_word_stays_one(special: str, tmp_path: Path) -> None:
    """Some checkpoints pad with `!`, which texts hold."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokens = ["o", "n", "e", "!", "on", "one", "</s>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=[("o", "n"), ("on", "e")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), eos_token="</s>", pad_token=special
    )
    assert ids_of("one!on", tokenizer, tmp_path) == [5, 3, 4, 6]


# Ids around a document.


@pytest.mark.parametrize(
    "kind", ["llama", "bart", "bert", "llama 3", "two in front", "t5", "gpt-2"]
)
def test_what_the_template_puts_in_front_is_kept(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = with_template(kind)
    expected = tokenizer("one two").input_ids
    if expected[-1] != tokenizer.eos_token_id:
        expected = [*expected, tokenizer.eos_token_id]
    with caplog.at_level(logging.INFO, "metro_fast"):
        assert ids_of("one two", tokenizer, tmp_path) == expected
    record = json.loads((tmp_path / "out" / "prepare.json").read_bytes())
    front = tokenizer.convert_ids_to_tokens(expected[: expected.index(tokenizer.vocab["one"])])
    assert record["in_front"] == front
    assert ("every document begins with" in caplog.text) == bool(front)


def test_what_the_template_puts_behind_is_named_if_it_is_not_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = with_template("language behind")
    ids = ids_of("one two", tokenizer, tmp_path)
    assert tokenizer.convert_ids_to_tokens(ids) == ["one", "two", "</s>"]
    assert "puts ['</s>', '[CLS]'] behind a text, and a document ends with </s>" in caplog.text


def test_the_front_is_that_of_every_task(tmp_path: Path) -> None:
    tokenizer = with_template("llama")
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    pipeline = prepare_pipeline(tmp_path / "a.txt", tmp_path / "out", tokenizer, piece_bytes=4)
    read, write = pipeline.steps
    for task in (1, 0):
        write(read(None, task, 2), task, 2)
    ids = TokenCorpus(finish_prepare(tmp_path / "out"), block_size=9)[0]["input_ids"].tolist()
    assert tokenizer.decode(ids) == "<s> one </s> <s> two </s> <s> three </s>"


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_ids_may_have_holes(size: int, tmp_path: Path) -> None:
    """Few tokens may have large ids; the width of an id follows the largest."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = models.WordLevel({"<unk>": 0, "one": 1, "</s>": size - 1}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    assert ids_of("one", tokenizer, tmp_path) == [1, size - 1]
    width = 2 if size == 65_536 else 4
    assert (tmp_path / "out" / "00000_unshuffled.ds").stat().st_size == 2 * width


# Slow tokenizers.


def test_byt5_gives_the_bytes_plus_three(tmp_path: Path) -> None:
    text = (
        "ü </s> <extra_id_0> <0x41> <pad>\n\x00\t  \u2028 \N{FOX FACE}" + bytes(range(128)).decode()
    )
    tokenizer = ByT5Tokenizer()
    assert ids_of(text, tokenizer, tmp_path) == [*(byte + 3 for byte in text.encode()), 1]
    saved = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert type(saved) is ByT5Tokenizer
    assert check_corpus_tokenizer(tmp_path / "out", saved)
    with pytest.raises(MetroFastError, match="which cannot be compared with the one that made"):
        check_corpus_tokenizer(tmp_path / "out", ByT5Tokenizer(extra_ids=10))
    with pytest.raises(MetroFastError, match="made with another tokenizer"):
        check_corpus_tokenizer(tmp_path / "out", in_layout("bytes"))


def test_a_slow_tokenizer_keeps_its_front_and_may_be_a_folder(tmp_path: Path) -> None:
    tokenizer = PerceiverTokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    ids = ids_of("one", tmp_path / "tokenizer", tmp_path, eos_token="[SEP]")
    assert ids == tokenizer("one").input_ids
    assert tokenizer.convert_ids_to_tokens(ids[0]) == "[CLS]"


@pytest.mark.slow
def test_a_slow_tokenizer_is_sent_to_workers(tmp_path: Path) -> None:
    """Slow: two spawned processes, which import datatrove and transformers."""
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    options = {"piece_bytes": 4, "progress": False}
    options["eos_token"] = "[SEP]"
    one = prepare(tmp_path / "a.txt", tmp_path / "one", PerceiverTokenizer(), **options)
    two = prepare(
        tmp_path / "a.txt", tmp_path / "two", PerceiverTokenizer(), num_workers=2, **options
    )
    for path in one.glob("*.ds*"):
        assert (two / path.name).read_bytes() == path.read_bytes()


# Layouts that are not those of the declared class.


@pytest.mark.parametrize("door", ["folder", "object", "command"])
def test_a_class_that_takes_another_token_as_unknown_is_refused(door: str, tmp_path: Path) -> None:
    """With SentencePiece's default ids, T5's class made `</s>` of every unknown letter."""
    tokenizer: Any = t5_like(["<unk>", "<s>", "</s>"])
    save_as(tokenizer, "T5Tokenizer", tmp_path / "tokenizer")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert loaded("é", add_special_tokens=False).input_ids[-1] == loaded.eos_token_id  # the fault
    message = "unknown letters become '</s>' .id 2., while its unknown token is '<unk>' .id 0."
    if door == "command":
        (tmp_path / "a.txt").write_text("one\n")
        arguments = [str(tmp_path / "a.txt"), "--output", str(tmp_path / "out")]
        arguments += ["--tokenizer", str(tmp_path / "tokenizer")]
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, FormatError)
        return
    given = loaded if door == "object" else tmp_path / "tokenizer"
    with pytest.raises(FormatError, match=message):
        ids_of("é", given, tmp_path)
    # The way out that the message names.
    file = tmp_path / "tokenizer" / "tokenizer.json"
    assert ids_of("é", file, tmp_path, eos_token="</s>") == [
        *tokenizer("é").input_ids,
        tokenizer.eos_token_id,
    ]


def test_the_layout_of_t5_is_taken(tmp_path: Path) -> None:
    tokenizer: Any = t5_like(["<pad>", "</s>", "<unk>"])
    save_as(tokenizer, "T5Tokenizer", tmp_path / "tokenizer")
    ids = ids_of("one é", tmp_path / "tokenizer", tmp_path)
    assert (ids[-2], ids[-1]) == (2, 1)


def test_a_class_that_cuts_otherwise_than_its_file_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """T5's class takes the pieces of a file, and puts its own pre-tokenizer before them."""
    tokenizer: Any = t5_like(["<pad>", "</s>", "<unk>"])
    tokenizer.backend_tokenizer.pre_tokenizer = None
    save_as(tokenizer, "T5Tokenizer", tmp_path / "tokenizer")
    ids_of("one two", tmp_path / "tokenizer", tmp_path)
    assert "and its declared class T5Tokenizer into" in caplog.text


def test_a_class_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    """Llama's class makes a BPE of whatever it finds, so that every word became letters."""
    tokenizer: Any = t5_like(["<unk>", "<s>", "</s>", "▁the", "▁quick"])
    folder = save_as(tokenizer, "LlamaTokenizer", tmp_path / "tokenizer")
    with pytest.raises(
        FormatError, match=r"is of type Unigram, and LlamaTokenizer, .* of type BPE"
    ):
        ids_of("the quick", folder, tmp_path)


@pytest.mark.parametrize("unknown", ["<pad>", "<s>"])
def test_an_undeclared_unknown_token_that_steers_is_refused(unknown: str, tmp_path: Path) -> None:
    """A model of pieces says which is unknown, whatever the tokenizer declares."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "a"]
    pieces = [(name, -float(i)) for i, name in enumerate(names)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=names.index(unknown)))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>"
    )
    with pytest.raises(FormatError, match=f"unknown letters become '{unknown}'"):
        ids_of("aé", tokenizer, tmp_path)


def test_an_end_that_is_also_the_unknown_token_is_refused(tmp_path: Path) -> None:
    tokenizer: Any = t5_like(["<unk>", "</s>"])
    with pytest.raises(MetroFastError, match="unknown letters become '<unk>', which ends docu"):
        ids_of("one", tokenizer, tmp_path, eos_token="<unk>")


def test_letters_that_are_dropped_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = models.BPE(vocab={"a": 0, "</s>": 1}, merges=[])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    assert ids_of("aéa", tokenizer, tmp_path) == [0, 0, 1]
    assert "drops letters that its vocabulary does not have" in caplog.text


# Names.


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = with_template("bart")
    tokenizer.save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    (tmp_path / "a.txt").write_text("one two\n")
    with serving(monkeypatch, tmp_path / "cache") as hub:
        hub.put("someone/words", files)
        arguments = [str(tmp_path / "a.txt"), "--output", str(tmp_path / "cli")]
        result = CliRunner().invoke(app, [*arguments, "--tokenizer", "someone/words"])
        assert result.exit_code == 0, (result.output, result.exception)
        ids = ids_of("one two", "someone/words", tmp_path)
        with pytest.raises(FileNotFoundError, match="nobody/nothing is not a file or folder here"):
            ids_of("one two", "nobody/nothing", tmp_path)
    assert ids == tokenizer("one two").input_ids
    assert TokenCorpus(tmp_path / "cli", block_size=9)[0]["input_ids"].tolist() == ids


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{}", "is not a tokenizer.json: it has no model"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "is damaged, or not of its declared"),
        ("tokenizer.json", b"\xff", "tokenizer.json"),
        ("vocab.txt", b"a", r"does not end in \.json or \.model, \.spm: give a tokenizer\.json"),
    ],
)
def test_files_that_are_not_tokenizers_are_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message):
        ids_of("one", tmp_path / name, tmp_path)


def test_a_tokenizer_without_an_end_says_how_to_give_one(tmp_path: Path) -> None:
    with_template("bert").save_pretrained(tmp_path)
    with pytest.raises(MetroFastError, match=r"eos_token is None.*it has </s>, \[SEP\].*--eos-tok"):
        ids_of("one", tmp_path / "tokenizer.json", tmp_path)

"""prepare: SentencePiece models, bare or in folders, with the ids of SentencePiece itself."""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from fake_hub import serving
from metro_fast._pretrained import load_tokenizer
from metro_fast.cli.prepare import app
from metro_fast.data import TokenCorpus, prepare
from metro_fast.data.tokenizer_identity import check_corpus_tokenizer
from metro_fast.errors import FormatError, MissingExtraError

LINES = [f"the cat sat on the mat, and it cost {i} coins (really)" for i in range(200)]
LINES += [f"document {i}: ümlaut and all, they say; ﬁne" for i in range(200)]
T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
# What SentencePiece can train: both models, its normalizations, spaces, symbols and layouts.
KINDS: dict[str, dict[str, Any]] = {
    "unigram": {},
    "t5": T5,
    "bpe": {"model_type": "bpe"},
    "unigram of bytes": {"byte_fallback": True, "vocab_size": 400},
    "bpe of bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400},
    "symbols": {"user_defined_symbols": "[D],##"},
    "bpe of symbols": {"model_type": "bpe", "user_defined_symbols": "[D],##"},
    "lower case": {"normalization_rule_name": "nmt_nfkc_cf"},
    "bare": {
        "add_dummy_prefix": False,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "spaces": {
        "model_type": "bpe",
        "remove_extra_whitespaces": False,
        "split_by_whitespace": False,
        "allow_whitespace_only_pieces": True,
        "byte_fallback": True,
        "vocab_size": 420,
    },
    "bert": {
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": 2,
        "eos_id": 3,
        "pad_piece": "[PAD]",
        "unk_piece": "[UNK]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    },
}


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("models")
    (folder / "lines.txt").write_text("\n".join(LINES))

    def trained(kind: str, **options: Any) -> Path:
        path = folder / f"{kind}.model"
        if not path.exists():
            sentencepiece.SentencePieceTrainer.train(
                input=str(folder / "lines.txt"),
                model_prefix=str(path.with_suffix("")),
                hard_vocab_limit=False,
                minloglevel=2,
                **{"vocab_size": 120, **(options or KINDS[kind])},
            )
        return path

    return trained


def peer(model: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(model))


def ids_of(text: str, tokenizer: Any, folder: Path, **options: Any) -> list[int]:
    (folder / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    prepare(folder / "a.jsonl", folder / "out", tokenizer, progress=False, **options)
    found: list[int] = TokenCorpus(folder / "out", block_size=10**6)[0]["input_ids"].tolist()
    return found


def in_folder(model: Path, folder: Path, name: str, **config: Any) -> Path:
    folder.mkdir()
    shutil.copy(model, folder / name)
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_model_gives_the_ids_of_sentencepiece(kind: str, train: Any, tmp_path: Path) -> None:
    model = train(kind)
    expected = peer(model)
    draw = random.Random(0)
    words = [
        *" ".join(LINES[:9]).split(),
        "中",
        "ﬁ",
        "\t",
        "\n",
        "\uff26",
        "é",
        "▁",
        "XYZ",
        "[D]",
        "##",
    ]
    texts = [
        "".join(draw.choice(words) + draw.choice(["", " ", " ", "  "]) for _ in range(8))
        for _ in range(200)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    output = prepare(tmp_path / "a.jsonl", tmp_path / "out", model, progress=False)
    found = TokenCorpus(output, block_size=10**6)[0]["input_ids"].tolist()
    ids = [index for text in texts for index in [*expected.encode(text), expected.eos_id()]]
    assert found == ids
    saved = AutoTokenizer.from_pretrained(output / "tokenizer")
    assert check_corpus_tokenizer(output, saved)
    assert saved.vocab_size == expected.get_piece_size()


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "my.model", "x.spm"])
def test_a_folder_with_a_model_and_no_class(name: str, train: Any, tmp_path: Path) -> None:
    model = train("unigram")
    folder = in_folder(model, tmp_path / "tokenizer", name)
    expected = [*peer(model).encode("the cat 中 sat"), 2]
    assert ids_of("the cat 中 sat", folder, tmp_path) == expected
    assert load_tokenizer(folder)("the cat 中 sat").input_ids == expected[:-1]


def test_a_folder_whose_class_says_nothing(train: Any, tmp_path: Path) -> None:
    model = train("unigram")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>"}
    folder = in_folder(model, tmp_path / "tokenizer", "tokenizer.model", **config)
    assert ids_of("the cat", folder, tmp_path) == [*peer(model).encode("the cat"), 2]
    assert load_tokenizer(folder).mask_token_id == peer(model).get_piece_size()


def test_a_folder_of_t5(train: Any, tmp_path: Path) -> None:
    model = train("t5")
    folder = in_folder(model, tmp_path / "tok", "spiece.model", tokenizer_class="T5Tokenizer")
    text = "the 中 cat </s> <extra_id_0> sat"
    assert ids_of(text, folder, tmp_path) == [*peer(model).encode(text), 1]
    size = peer(model).get_piece_size()
    assert load_tokenizer(folder).convert_tokens_to_ids("<extra_id_0>") == size + 99


def test_a_layout_that_is_not_that_of_t5_is_refused(train: Any, tmp_path: Path) -> None:
    model = train("unigram")
    folder = in_folder(model, tmp_path / "tok", "spiece.model", tokenizer_class="T5Tokenizer")
    message = "unknown letters become '</s>' .id 2., while its unknown token is '<unk>' .id 0."
    with pytest.raises(FormatError, match=message):
        ids_of("the 中 cat", folder, tmp_path)
    with pytest.raises(FormatError, match=message):
        load_tokenizer(folder)
    found = ids_of("the 中 cat", folder / "spiece.model", tmp_path)  # the way out of the message
    assert found == [*peer(model).encode("the 中 cat"), 2]


@pytest.mark.parametrize("declared", ["AlbertTokenizer", "PegasusTokenizer"])
def test_a_class_whose_tokens_are_missing_is_refused(
    declared: str, train: Any, tmp_path: Path
) -> None:
    model = train("unigram")
    folder = in_folder(model, tmp_path / "tok", "spiece.model", tokenizer_class=declared)
    with pytest.raises(FormatError, match=r"the tokenizer at .*tok"):
        ids_of("the cat", folder, tmp_path)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "unigram of bytes", "bpe of bytes"])
def test_control_tokens_in_a_text_are_the_letters_of_sentencepiece(
    kind: str, train: Any, tmp_path: Path
) -> None:
    model = train(kind)
    text = "the </s> cat<s><unk> <extra_id_0> <0x41> <mask> <|im_end|>"
    assert ids_of(text, model, tmp_path) == [*peer(model).encode(text), 2]


def test_symbols_that_steer_a_model_are_letters(train: Any, tmp_path: Path) -> None:
    """A user's symbols are texts for SentencePiece, but sentinels and masks are not."""
    plain = train("no symbols", vocab_size=120)
    model = train("steering", vocab_size=123, user_defined_symbols="<extra_id_0>,<mask>,[D]")
    text = "the <mask> cat <extra_id_0> sat"
    found = [peer(model).id_to_piece(index) for index in ids_of(text, model, tmp_path)]
    expected = [peer(plain).id_to_piece(index) for index in peer(plain).encode(text)]
    assert found == [*expected, "</s>"]


@pytest.mark.parametrize("options", [{"model_type": "word"}, {"treat_whitespace_as_suffix": True}])
def test_kinds_that_fast_tokenizers_do_not_have_are_refused(
    options: dict[str, Any], train: Any, tmp_path: Path
) -> None:
    model = train(next(iter(options)), **options)
    with pytest.raises(FormatError, match="which fast tokenizers do not have"):
        ids_of("the cat", model, tmp_path)


def test_files_that_are_not_models_are_named(train: Any, tmp_path: Path) -> None:
    whole = train("unigram").read_bytes()
    for content in (b"rubbish" * 9, b"", whole[: len(whole) // 2], b"IQ== 0\nIg== 1\n"):
        (tmp_path / "x.model").write_bytes(content)
        with pytest.raises(FormatError, match="SentencePiece model"):
            ids_of("the cat", tmp_path / "x.model", tmp_path)


def test_tokens_without_a_class_are_refused(train: Any, tmp_path: Path) -> None:
    folder = in_folder(train("unigram"), tmp_path / "tok", "tokenizer.model")
    (folder / "added_tokens.json").write_text('{"<mask>": 120}')
    with pytest.raises(FormatError, match=r"has tokens in added_tokens\.json, but does not say"):
        ids_of("the cat", folder, tmp_path)


def test_a_class_of_another_algorithm_is_refused(train: Any, tmp_path: Path) -> None:
    model = train("unigram")
    folder = in_folder(model, tmp_path / "tok", "tokenizer.model", tokenizer_class="LlamaTokenizer")
    with pytest.raises(
        FormatError, match=r"is of type Unigram, and LlamaTokenizer, .* of type BPE"
    ):
        ids_of("the cat", folder, tmp_path)


def test_a_class_that_cuts_otherwise_is_named(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Llama's models keep double spaces, and so does its class, whatever the model says."""
    model = train("bpe of bytes")
    folder = in_folder(model, tmp_path / "tok", "tokenizer.model", tokenizer_class="LlamaTokenizer")
    ids_of("the cat", folder, tmp_path)
    assert "tokenizer.model cuts '  two  spaces ' into" in caplog.text
    assert "and its declared class LlamaTokenizer into" in caplog.text


def test_several_models_are_named(train: Any, tmp_path: Path) -> None:
    folder = in_folder(train("unigram"), tmp_path / "tok", "source.spm")
    shutil.copy(train("bpe"), folder / "target.spm")
    with pytest.raises(FormatError, match=r"several models \(source\.spm, target\.spm\)"):
        ids_of("the cat", folder, tmp_path)


def test_the_command_and_the_hub_take_models(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train("t5")
    (tmp_path / "a.txt").write_text("the cat\n")
    expected = [*peer(model).encode("the cat"), 1]
    with serving(monkeypatch, tmp_path / "cache") as hub:
        config = json.dumps({"tokenizer_class": "T5Tokenizer"}).encode()
        files = {"spiece.model": model.read_bytes(), "tokenizer_config.json": config}
        hub.put("someone/t5", files)
        hub.put("someone/bare", {"tokenizer.model": model.read_bytes(), "config.json": b"{}"})
        for name in (str(model), "someone/t5", "someone/bare"):
            output = tmp_path / name.replace("/", "-")
            arguments = [str(tmp_path / "a.txt"), "--output", str(output), "--tokenizer", name]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (result.output, result.exception)
            assert TokenCorpus(output, block_size=99)[0]["input_ids"].tolist() == expected


@pytest.mark.parametrize("form", ["model", "folder", "hub"])
def test_a_missing_package_is_named(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This needs no SentencePiece: the first byte says that a file is one of its models."""
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    content = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
    config = json.dumps({"tokenizer_class": "T5Tokenizer"}).encode()
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "spiece.model").write_bytes(content)
    (folder / "tokenizer_config.json").write_bytes(config)
    named: Any = folder if form == "folder" else folder / "spiece.model"
    with serving(monkeypatch, tmp_path / "cache") as hub:
        hub.put("someone/t5", {"spiece.model": content, "tokenizer_config.json": config})
        with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[sentencepiece\]'"):
            ids_of("the cat", "someone/t5" if form == "hub" else named, tmp_path)

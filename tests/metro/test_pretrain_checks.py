"""Wrong inputs of `pretrain`: each is refused before the first step, with a message that helps."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from transformers import AutoTokenizer, BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from metro_fast.data import prepare, train_tokenizer, write_corpus
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import pretrain
from pretrain_cases import SIZES, baseline, changed, small_run


@pytest.fixture
def settings(tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    return small_run(tmp_path, tiny_tokenizer)


def refused(settings: dict[str, Any], changes: dict[str, Any], error: type[Exception]) -> str:
    """The message of the refusal; nothing has been written."""
    with pytest.raises(error) as caught:
        pretrain(changed(settings, changes))
    assert not settings["output"].exists()
    return str(caught.value)


def plain_t5(folder: Path, **options: Any) -> Path:
    sizes = {"vocab_size": 300, "num_decoder_layers": 1, "decoder_start_token_id": 0, **SIZES}
    T5ForConditionalGeneration(T5Config(**{**sizes, **options})).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"data.corpus": Path("nowhere")}, FileNotFoundError, "data.corpus is nowhere, which does"),
        ({"data.evaluation_corpus": "nowhere"}, FileNotFoundError, "data.evaluation_corpus is now"),
        (
            {"data.tokenizer": Path("nowhere")},
            FileNotFoundError,
            "give the right one as data",
        ),
        ({"data.evaluation_rows": 60}, MetroFastError, "has 60 rows, and 60 are to be held out"),
        ({"init": "./nowhere"}, MetroFastError, "model.d_model is given, but init loads a model"),
        ({"init": "./nowhere", "model": None}, FileNotFoundError, "nowhere does not exist"),
        ({"training.fp16": True}, MetroFastError, "fp16=True makes T5 overflow"),
        ({"training.optim": "adamw_torhc"}, MetroFastError, "training is refused by transformers"),
        ({"training.save_total_limit": 1}, MetroFastError, "save_total_limit=1 deletes"),
        ({"objective.whole_words": True}, MetroFastError, "the tokenizer do not mark words"),
        (
            {"training.optim": "sgd", "training.embedding_multiplier": 2.0},
            MetroFastError,
            "the learning-rate multipliers 2.0 and 1.0 need optim=adamw_torch or",
        ),
    ],
)
def test_it_refuses_before_any_work(
    changes: dict[str, Any], error: type[Exception], match: str, settings: dict[str, Any]
) -> None:
    assert match in refused(settings, changes, error)


@pytest.mark.parametrize("place", ["given", "in the corpus"])
def test_another_tokenizer_of_the_same_size(
    place: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The record of `prepare` distinguishes two tokenizers whose ids are all in range."""
    texts = [("abc bcd cde " * 400), ("cba dcb edc " * 400)]
    ours, other = (train_tokenizer([text], vocab_size=40, num_sentinels=12) for text in texts)
    assert len(ours) == len(other)
    (tmp_path / "text.txt").write_text("\n".join([texts[0]] * 4))
    corpus = prepare(tmp_path / "text.txt", tmp_path / "prepared", ours, progress=False)
    folder = tmp_path / "other" if place == "given" else corpus / "tokenizer"
    other.save_pretrained(folder)
    run = {"data.corpus": corpus, "data.tokenizer": folder}
    message = refused(settings, run, MetroFastError)
    assert f"the corpus {corpus} was made with another tokenizer (sha256 " in message
    ours.save_pretrained(folder)
    pretrain(changed(settings, {**run, "training.max_steps": 1}))


def test_more_added_tokens_change_no_id(settings: dict[str, Any], tmp_path: Path) -> None:
    """The mode tokens of UL2 may be added after `prepare`."""
    text = "red green blue " * 400
    tokenizer = train_tokenizer([text], vocab_size=40, num_sentinels=12)
    (tmp_path / "text.txt").write_text("\n".join([text] * 4))
    corpus = prepare(tmp_path / "text.txt", tmp_path / "prepared", tokenizer, progress=False)
    modes = baseline(settings, "ul2", mode_tokens=True)
    run = {"data.corpus": corpus, "data.tokenizer": tmp_path / "more", "training.max_steps": 1}
    tokenizer.save_pretrained(tmp_path / "more")
    assert "the tokenizer has no token [NLU]" in refused(modes, run, MetroFastError)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[NLU]", "[NLG]", "[S2S]"]})
    tokenizer.save_pretrained(tmp_path / "more")
    pretrain(changed(modes, run))


def test_ids_outside_the_vocabulary(settings: dict[str, Any], tmp_path: Path) -> None:
    """A corpus without a record is searched to its last token."""
    other = tmp_path / "other"
    write_corpus(other, [[5, 6, 7, 1] * 4000, [5] * 15 + [20_000], [5, 6, 7, 1] * 4000])
    run = {"data.tokenizer": settings["data"]["corpus"] / "tokenizer", "data.corpus": other}
    message = refused(settings, run, FormatError)
    assert "holds token 20000" in message
    assert "made with another tokenizer" in message


def test_a_tokenizer_without_sentinels_or_mask(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefghijkl"])}
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    corpus = tmp_path / "bare"
    write_corpus(corpus, [[3, 4, 5, 6, 7, 8, 9, 1] * 40])
    bare.save_pretrained(corpus / "tokenizer")
    run = {"data.corpus": corpus, "training.max_steps": 1}
    assert "has no token <extra_id_0>" in refused(baseline(settings, "span"), run, MetroFastError)
    assert "neither a mask token nor <extra_id_0>" in refused(settings, run, MetroFastError)
    prefixes = baseline(settings, "ul2", r_weight=0, x_weight=0)  # which need no sentinel
    pretrain(changed(prefixes, {**run, "output": tmp_path / "prefixes"}))
    bare.add_special_tokens({"additional_special_tokens": ["<extra_id_0>"]})
    bare.save_pretrained(corpus / "tokenizer")
    pretrain(changed(settings, run))  # the first sentinel takes the place of the mask


def test_too_few_sentinels(settings: dict[str, Any]) -> None:
    """A row of 512 tokens has 26 spans, and the tokenizer 16 sentinels."""
    run = {"data.block_size": 512, "data.evaluation_rows": 1}
    assert "needs 26 sentinels, but num_sentinels is 16" in refused(
        baseline(settings, "span"), run, MetroFastError
    )
    run["objective.on_sentinel_shortage"] = "clamp"
    pretrain(changed(baseline(settings, "span"), {**run, "training.max_steps": 1}))


def test_a_model_with_fewer_ids_than_the_tokenizer(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    run = baseline(settings, "span")
    size = len(tiny_tokenizer)
    small = {"init": plain_t5(tmp_path / "small", vocab_size=size - 1), "model": None}
    message = refused(run, small, MetroFastError)
    assert f"the tokenizer has {size} ids, but the model at {small['init']}" in message
    large = {"init": plain_t5(tmp_path / "large", vocab_size=size + 9), "model": None}
    pretrain(changed(run, {**large, "training.max_steps": 1}))


def test_a_model_with_another_end_of_text(settings: dict[str, Any], tmp_path: Path) -> None:
    init = plain_t5(tmp_path / "t5", eos_token_id=2)
    message = refused(baseline(settings, "span"), {"init": init, "model": None}, MetroFastError)
    assert "eos_token_id is 1 in the tokenizer, but 2 in the model" in message


@pytest.mark.parametrize("place", ["init", "auxiliary.init"])
def test_a_model_of_another_tokenizer(
    place: str,
    settings: dict[str, Any],
    tiny_tokenizer: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sizes fit, and so do padding and end of text, but the ids mean other tokens."""
    fitting, other = plain_t5(tmp_path / "fitting"), tmp_path / "other"
    copytree(fitting, other)
    changes: dict[str, Any] = {"init": fitting, "model": None, "training.max_steps": 1}
    changes[place] = other if place == "init" else str(other)
    if place == "auxiliary.init":
        changes["auxiliary.num_layers"] = None
    start = settings if place == "auxiliary.init" else baseline(settings, "span")
    tiny_tokenizer.save_pretrained(fitting)
    train_tokenizer(["a cat sees the red dog"], vocab_size=60, num_sentinels=9).save_pretrained(
        other
    )
    message = refused(start, changes, MetroFastError)
    assert f"the tokenizer is not that of the model at {other}" in message
    assert "the first of them id 4, which is" in message  # the tiny tokenizer's first sentinel
    assert "and '<extra_id_0>' to the tokenizer" in message

    grown = AutoTokenizer.from_pretrained(fitting)
    grown.add_tokens(["a new one"])
    grown.save_pretrained(other)
    pretrain(changed(start, changes))
    assert "without a tokenizer" not in caplog.text


def test_a_model_without_a_tokenizer_is_warned_of(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init = plain_t5(tmp_path / "t5")
    run = {"init": init, "model": None, "training.max_steps": 1}
    pretrain(changed(baseline(settings, "span"), run))
    assert f"{init} comes without a tokenizer" in caplog.text


@pytest.mark.parametrize("kind", ["an encoder", "no model"])
def test_an_init_that_is_no_encoder_decoder(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    if kind == "an encoder":
        sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
        BertModel(BertConfig(vocab_size=99, num_hidden_layers=1, **sizes)).save_pretrained(folder)
    run = {"init": folder, "model": None}
    error = FormatError if kind == "an encoder" else FileNotFoundError
    for start in (baseline(settings, "span"), settings):
        message = refused(start, run, error)
        assert str(folder) in message
        assert ("is not an encoder-decoder" in message) == (kind == "an encoder")


def test_an_output_that_holds_a_run_of_other_settings(settings: dict[str, Any]) -> None:
    pretrain(changed(settings, {"training.max_steps": 2}))
    with pytest.raises(MetroFastError, match="holds a run already: pass resume=True"):
        pretrain(changed(settings, {}))
    other = {"objective.rtd_weight": 10, "training.learning_rate": 0.1, "resume": True}
    with pytest.raises(MetroFastError) as caught:
        pretrain(changed(settings, other))
    assert "(objective.rtd_weight: 50.0 before, 10.0 now; training." in str(caught.value)
    with pytest.raises(MetroFastError, match=r"training.max_steps is 1, but .* reached step 2"):
        pretrain(changed(settings, {"training.max_steps": 1, "resume": True}))


def test_a_run_to_resume_that_does_not_exist(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrain(changed(settings, {"training.max_steps": 1, "resume": True}))
    assert "no checkpoint to continue from: the run begins at its first step" in caplog.text
    # A model that no run has made would be overwritten.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(MetroFastError, match=r"mine holds a model \(config\.json\)"):
        pretrain(changed(settings, {"output": tmp_path / "mine", "resume": True}))


def test_texts_in_the_place_of_a_corpus(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one\n")
    for name in ("data.corpus", "data.evaluation_corpus"):
        with pytest.raises((MetroFastError, OSError), match="texts") as caught:
            pretrain(changed(settings, {name: tmp_path / "texts"}))
        assert "tokenizer folder" not in str(caught.value)


def test_an_unwritable_output_is_an_os_error(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        pretrain(changed(settings, {"output": tmp_path / "file" / "out"}))

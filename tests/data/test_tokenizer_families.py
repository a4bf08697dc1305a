"""The vocabularies of published families: their sentinels, masks, sizes, and what they lack."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSeq2SeqLM, MyT5Tokenizer, PreTrainedTokenizerFast

from metro_fast import MetroFastError
from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    DataCollatorForUL2,
    mask_vocabulary,
    span_vocabulary,
    write_corpus,
)
from metro_fast.metro import pretrain
from metro_fast.ops import Denoiser, Vocabulary, corrupt_spans
from metro_fast.tuning import PairLoss
from pretrain_cases import baseline, changed, small_run
from tokenizer_families import (
    FAMILIES,
    bart,
    bert,
    byt5,
    down,
    gpt2,
    new_llama,
    page_with_table,
    pieces,
    sentence_piece,
)

PAGE = Path(__file__).parents[2] / "docs" / "tokenizers.md"
pytestmark = pytest.mark.filterwarnings("ignore:the batch has no sample_id")
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_family_has_its_own_sentinels_and_a_text_ends_once(name):
    family = BY_NAME[name]
    tokenizer = family.build()
    if family.sentinels is None:
        with pytest.raises(MetroFastError, match="no token <extra_id_0>: give sentinel_first, add"):
            DataCollatorForSpanCorruption(tokenizer)
        return
    first, step, count = family.sentinels
    collator = DataCollatorForSpanCorruption(tokenizer)
    found = collator.vocabulary
    assert (found.sentinel_first, found.sentinel_step, found.num_sentinels) == family.sentinels
    assert (found.pad_token_id, found.eos_token_id) == (family.pad, family.eos)
    row = [*range(10, 50), family.eos]
    labels = collator([row])["labels"][0].tolist()
    used = [index for index in labels if (first - index) * -step in range(count)]
    assert used == [first, first + step], "of 40 tokens, 6 are noise, in 2 spans"
    assert labels[-2:] == [49, family.eos]


@pytest.mark.parametrize("name", BY_NAME)
def test_a_family_has_its_own_mask_and_size(name):
    family = BY_NAME[name]
    tokenizer = family.build()
    if family.mask is None:
        with pytest.raises(
            MetroFastError, match=r"neither a mask token nor <extra_id_0>.* give mask"
        ):
            DataCollatorForMetro(tokenizer)
        return
    found = DataCollatorForMetro(tokenizer).vocabulary
    assert (found.mask_token_id, found.pad_token_id) == (family.mask, family.pad)
    assert found.vocab_size == family.size
    special = set(found.special_token_ids)
    assert {family.mask, family.pad, *tokenizer.all_special_ids} <= special
    if family.sentinels is not None:
        first, step, count = family.sentinels
        assert set(range(first, first + step * count, step)) <= special


@pytest.mark.slow  # alone, it builds vocabularies of a million pieces
def test_the_page_has_the_table():
    page = PAGE.read_text("utf-8")
    assert page_with_table(page) == page, (
        "run `python tests/support/tokenizer_families.py --write docs/tokenizers.md`"
    )


def test_byt5_reads_as_in_the_documentation_of_transformers():
    """Its page gives the ids of "The dog [258]a ball [257]park." (model_doc/byt5)."""
    tokenizer = byt5()
    ids = np.array(tokenizer("The dog chases a ball in the park.").input_ids[:-1])[None]
    noise = np.zeros(ids.shape, bool)
    noise[0, 8:14] = noise[0, 21:28] = True
    batch = corrupt_spans(ids, noise_mask=noise, vocabulary=span_vocabulary(tokenizer))
    assert batch.input_ids.tolist() == [
        [
            87, 107, 104, 35, 103, 114, 106, 35, 258, 35, 100, 35, 101, 100, 111, 111, 257, 35,
            115, 100, 117, 110, 49, 1,
        ]
    ]  # fmt: skip


def test_no_text_has_a_sentinel_of_byt5():
    """UTF-8 never uses 13 bytes: C0, C1, and the last 11."""
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1))))
    unused = set(range(256)) - set(text.encode())
    assert unused == {0xC0, 0xC1, *range(0xF5, 0x100)}
    found = span_vocabulary(byt5())
    sentinels = range(found.sentinel_first, found.sentinel_first - found.num_sentinels, -1)
    assert list(sentinels) == sorted((3 + byte for byte in unused), reverse=True)[:11]
    assert span_vocabulary(byt5(), num_sentinels=100).num_sentinels == 100


def test_rows_of_byt5_in_any_script_are_corrupted():
    tokenizer = byt5()
    texts = ["Übung macht den Meister 😀 " * 20, "羅馬是義大利的首都。" * 12, "plain " * 30]
    collator = DataCollatorForSpanCorruption(tokenizer, mean_noise_span_length=20.0)
    batch = collator(tokenizer(texts, padding=True))
    assert batch["input_ids"].max() == 258
    with pytest.raises(MetroFastError, match="needs 28 sentinels, but num_sentinels is 11"):
        DataCollatorForSpanCorruption(tokenizer)([[100] * 568])


def test_the_pieces_of_mt5_go_before_tokens_that_were_added_to_them():
    """T5Tokenizer adds 100 with default arguments; the checkpoints know the pieces alone."""
    tokenizer = sentence_piece([*pieces(20), *down(5, "\u2581<extra_id_{}>")], 3)
    found = span_vocabulary(tokenizer)
    assert (found.sentinel_first, found.sentinel_step, found.num_sentinels) == (27, -1, 5)
    special = mask_vocabulary(tokenizer).special_token_ids
    assert special == (0, 1, 2, *range(23, 31)), "added ones are not text either"


def test_sentinels_may_be_spelled_as_in_ult5():
    """tgsc/ult5-pt-small: <|extra_id_0|> and so on, counting up behind GPT-2's vocabulary."""
    tokenizer = new_llama()
    names = [f"<|extra_id_{number}|>" for number in range(7)]
    tokenizer.add_special_tokens({"pad_token": "</s>", "extra_special_tokens": names})
    found = span_vocabulary(tokenizer)
    assert (found.sentinel_first, found.sentinel_step, found.num_sentinels) == (32_000, 1, 7)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open file
def test_the_rewritten_bytes_of_myt5_are_refused(tmp_path):
    path = tmp_path / "byte_maps.json"
    path.write_text(json.dumps({"decompose_map": {}, "merge_map": {}}))
    tokenizer = MyT5Tokenizer(str(path))
    with pytest.raises(MetroFastError, match=r"rewritten bytes.*give Vocabulary\(sentinel_first"):
        span_vocabulary(tokenizer)
    assert span_vocabulary(tokenizer, sentinel_first=383).sentinel_first == 383


@pytest.mark.parametrize(
    ("build", "make", "message"),
    [
        (bert, lambda t: span_vocabulary(t, sentinel_first=99), "eos_token_id is None, and the "
         "tokenizer has no eos_token: give eos_token_id, or set tokenizer.eos_token"),
        (gpt2, lambda t: span_vocabulary(t, sentinel_first=99), "pad_token_id is None, and the "
         "tokenizer has no pad_token: give pad_token_id, or set tokenizer.pad_token"),
        (gpt2, lambda t: mask_vocabulary(t, mask_token_id=5), "the tokenizer has no pad_token"),
    ],
)  # fmt: skip
def test_what_a_tokenizer_lacks_is_named_with_what_to_give(build, make, message):
    with pytest.raises(MetroFastError, match=message):
        make(build())


def advice(error):
    """The call of a message, between "with " and the next word."""
    found = re.search(
        r"add (?:it|one|sentinels) with (tokenizer\.\w+\(.*?\))(?:,| and)", str(error.value)
    )
    return found.group(1)


def test_the_advice_for_sentinels_can_be_followed():
    tokenizer = new_llama()
    with pytest.raises(MetroFastError) as error:
        span_vocabulary(tokenizer, pad_token_id=2)
    eval(advice(error), {"tokenizer": tokenizer})
    found = span_vocabulary(tokenizer, pad_token_id=2)
    assert (found.sentinel_first, found.sentinel_step, found.num_sentinels) == (32_000, 1, 100)


def test_the_advice_for_a_mask_can_be_followed():
    tokenizer = new_llama()
    with pytest.raises(MetroFastError) as error:
        mask_vocabulary(tokenizer, pad_token_id=2)
    eval(advice(error), {"tokenizer": tokenizer})
    assert mask_vocabulary(tokenizer, pad_token_id=2).mask_token_id == 32_000


def test_the_advice_for_mode_tokens_keeps_the_sentinels_special():
    """A list in `add_special_tokens` would take the place of T5's sentinels."""
    tokenizer = sentence_piece([*pieces(20), *down(5)], 5)
    before = set(tokenizer.all_special_ids)
    with pytest.raises(MetroFastError) as error:
        DataCollatorForUL2(tokenizer)
    eval(advice(error), {"tokenizer": tokenizer})
    collator = DataCollatorForUL2(tokenizer)
    assert collator.vocabulary.sentinel_first == 27
    assert before <= set(tokenizer.all_special_ids)
    assert {*before, 28, 29, 30} <= set(mask_vocabulary(tokenizer).special_token_ids)


def test_bart_hides_every_span_behind_its_one_mask():
    """BART's text infilling (arXiv 1910.13461): one <mask> a span, and the whole text as target."""
    tokenizer = bart()
    collator = DataCollatorForSpanCorruption(
        vocabulary=Vocabulary(
            sentinel_first=tokenizer.mask_token_id,
            num_sentinels=1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        denoisers=Denoiser(inputs="one_sentinel", targets="whole"),
    )
    batch = collator([[*range(100, 140), 2]])
    assert batch["labels"].tolist() == [[*range(100, 140), 2]]
    inputs = batch["input_ids"][0].tolist()
    assert inputs.count(50_264) == 2
    assert inputs[-2:] == [50_264, 2]


WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<mask>": 3}
GAPS = WORDS | {f"w{index}": index for index in range(20, 88)} | {"last": 120}


@pytest.fixture(scope="module")
def with_holes():
    """A tokenizer whose ids are 0 to 3, 20 to 87, and 120."""
    backend = Tokenizer(models.WordLevel(GAPS, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def test_ids_with_holes_are_counted_to_the_last_and_holes_are_never_drawn(with_holes):
    assert len(with_holes) == 73
    collator = DataCollatorForMetro(with_holes, mlm_probability=0.9, masking=None)
    assert collator.vocabulary.vocab_size == 121
    batch = collator([[120, *range(20, 88)] * 20])
    assert set(batch["input_ids"].unique().tolist()) <= {3, *range(20, 88), 120}
    replaced = batch["input_ids"] != batch["labels"]
    assert (replaced & (batch["input_ids"] != 3)).sum() > 50, "some were drawn"


@pytest.mark.parametrize("objective", ["metro", "ul2"])
def test_a_run_has_embeddings_for_the_last_id(tmp_path, with_holes, objective):
    settings = small_run(tmp_path, with_holes)
    write_corpus(settings["data"]["corpus"], [[120, *range(60, 90), 1]] * 30)
    settings["model"]["vocab_multiple"] = 1
    settings["training"]["max_steps"] = 1
    if objective == "ul2":
        settings = baseline(settings, "ul2", r_weight=0, x_weight=0)
    pretrain(changed(settings, {}))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out" / "main")
    assert model.config.vocab_size == 121


@pytest.mark.parametrize(
    ("objective", "message"),
    [("metro", "the id 120, but the model"), ("ul2", "has 121 ids, but the model .* 88")],
)
def test_a_model_without_the_last_id_is_refused(tmp_path, with_holes, tiny_t5, objective, message):
    settings = small_run(tmp_path, with_holes)
    settings.pop("model")
    settings = baseline(settings, "ul2", r_weight=0, x_weight=0) if objective == "ul2" else settings
    tiny_t5.save_pretrained(tmp_path / "model")
    assert len(with_holes) < tiny_t5.config.vocab_size == 88
    with pytest.raises(MetroFastError, match=message):
        pretrain(changed(settings | {"init": str(tmp_path / "model")}, {}))


def test_the_loss_of_pairs_counts_ids_to_the_last(with_holes, tiny_t5):
    loss = PairLoss(with_holes, [("last", "last")])
    with pytest.raises(MetroFastError, match="121"):
        loss(tiny_t5)

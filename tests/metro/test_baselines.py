"""The baselines on METRO's trainer: their corruption, T5 and T5Gemma, loaded models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)

from metro_cases import Rows, arguments
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroForPretraining, MetroTrainer, pretrain
from metro_fast.metro.objectives import RECIPES
from pretrain_cases import SIZES, baseline, changed, history, small_run


@pytest.fixture
def settings(tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    return small_run(tmp_path, tiny_tokenizer)


def batch_of(name: str, tokenizer: Any, rows: np.ndarray, **own: Any) -> Any:
    recipe = RECIPES[name]
    collator = recipe.collator(tokenizer, recipe.settings(**own), 0)
    return collator([{"input_ids": row, "sample_id": i} for i, row in enumerate(rows)])


@pytest.mark.parametrize("name", ["span", "ul2", "metro_t0_span"])
def test_a_baseline_trains_from_a_corpus(name: str, settings: dict[str, Any]) -> None:
    own = {} if name == "span" else {"on_sentinel_shortage": "clamp"}
    run = baseline(settings, name, **own)
    out = pretrain(changed(run, {"training.max_steps": 40, "training.logging_steps": 10}))
    losses = [line["loss"] for line in history(out) if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert type(AutoModelForSeq2SeqLM.from_pretrained(out / "main")) is T5ForConditionalGeneration


def test_prefix_language_modeling_cuts_a_row_in_two(tiny_tokenizer: Any) -> None:
    """Input and target are the row, each with an EOS, and there is no sentinel."""
    rows = np.random.default_rng(0).integers(20, len(tiny_tokenizer), (16, 24))
    batch = batch_of("ul2", tiny_tokenizer, rows, r_weight=0, x_weight=0)
    for row, ids, mask, labels in zip(
        rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        prefix, target = ids[mask.bool()].tolist(), labels[labels != -100].tolist()
        assert (prefix[-1], target[-1]) == (1, 1)
        assert prefix[:-1] + target[:-1] == row.tolist()


def test_weights_of_ul2_choose_denoisers(tiny_tokenizer: Any) -> None:
    """R is the first two of the seven denoisers, X the next four, S the last."""
    rows = np.random.default_rng(0).integers(20, len(tiny_tokenizer), (400, 24))
    for weights, chosen in (("r", {0, 1}), ("x", {2, 3, 4, 5}), ("s", {6}), ("rxs", set(range(7)))):
        own = {f"{each}_weight": float(each in weights) for each in "rxs"}
        batch = batch_of("ul2", tiny_tokenizer, rows, on_sentinel_shortage="clamp", **own)
        assert set(batch["denoisers"].tolist()) == chosen


def test_spans_of_metro_t0_are_some_of_them_empty(tiny_tokenizer: Any) -> None:
    """Only an empty span gives two sentinels in a row, in the labels."""
    rows = np.random.default_rng(0).integers(20, len(tiny_tokenizer), (200, 64))
    doubles = {}
    for share in (0.0, 0.3):
        own = {"empty_probability": share, "on_sentinel_shortage": "clamp"}
        labels = batch_of("metro_t0_span", tiny_tokenizer, rows, **own)["labels"].numpy()
        sentinel = (labels >= 4) & (labels < 20)
        doubles[share] = int((sentinel[:, 1:] & sentinel[:, :-1]).sum())
    assert doubles[0.0] == 0 < doubles[0.3]


def test_rows_of_metro_t0_as_published(tiny_tokenizer: Any) -> None:
    """Each sentinel, then its span; sentinels count from the second, and the first ends."""
    rows = np.random.default_rng(0).integers(20, len(tiny_tokenizer), (50, 24))
    batch = batch_of("metro_t0_span", tiny_tokenizer, rows, upstream=True)
    for row, ids, mask, labels in zip(
        rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        source, target = ids[mask.bool()].tolist(), labels[labels != -100].tolist()
        spans: dict[int, list[int]] = {}
        for token in target:
            if token < 20:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == [*range(5, 5 + len(spans) - 1), 4]
        restored = [part for token in source for part in spans.get(token, [token])]
        assert restored == row.tolist()


def t5gemma(vocab_size: int) -> T5GemmaForConditionalGeneration:
    part = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 8,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    config = T5GemmaConfig(
        encoder=dict(part), decoder=dict(part), vocab_size=vocab_size, pad_token_id=0,
        eos_token_id=1, bos_token_id=2, attention_dropout=0.0, dropout_rate=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return T5GemmaForConditionalGeneration(config)


@pytest.mark.parametrize("own", [{"r_weight": 0, "x_weight": 0}, {}], ids=["prefix", "ul2"])
def test_t5gemma_trains_by_its_own_shift_and_softcap(
    own: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """The first logged loss is that of transformers' own forward with labels; it then falls."""
    model = t5gemma(len(tiny_tokenizer))
    recipe = RECIPES["ul2"]
    settings = recipe.settings(on_sentinel_shortage="clamp", **own)
    collator = recipe.collator(tiny_tokenizer, settings, 0)
    rows = [
        {"input_ids": row["ids"] % (len(tiny_tokenizer) - 20) + 20, "sample_id": row["sample_id"]}
        for row in (Rows([24] * 8)[i] for i in range(8))
    ]
    batch = collator(rows)
    with torch.no_grad():
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).logits
    assert logits.abs().max() <= model.config.decoder.final_logit_softcapping
    expected = functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    trainer = MetroTrainer(
        model,
        arguments(tmp_path, per_device_train_batch_size=8, max_steps=4, learning_rate=1e-2),
        train_dataset=rows,
        data_collator=collator,
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[0] == pytest.approx(float(expected), rel=1e-5)
    assert losses[-1] < losses[0]


def test_t5gemma_continues_from_a_folder(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """`init` with the objective `ul2`: the model that was loaded is the one that is trained."""
    t5gemma(len(tiny_tokenizer)).save_pretrained(tmp_path / "gemma")
    run = baseline(settings, "ul2", r_weight=0, x_weight=0)
    rates = {"training.learning_rate": 1e-12, "training.max_steps": 1, "training.weight_decay": 0}
    out = pretrain(changed(run, {**rates, "model": None, "init": tmp_path / "gemma"}))
    before, after = (
        AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "gemma", out / "main")
    )
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)


def test_a_t5_with_a_head_of_its_own_stays_so(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Continued pretraining of a v1.1-like T5 does not tie what is not tied."""
    sizes = {"vocab_size": len(tiny_tokenizer), "num_decoder_layers": 1, **SIZES}
    t5 = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes))
    t5.lm_head.weight = torch.nn.Parameter(torch.randn_like(t5.lm_head.weight))
    t5.save_pretrained(tmp_path / "t5")
    run = changed(
        baseline(settings, "span"),
        {"model": None, "init": tmp_path / "t5", "training.max_steps": 2},
    )
    out = pretrain(run)
    model = AutoModelForSeq2SeqLM.from_pretrained(out / "main")
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    # transformers before 5 ties by this alone.
    assert json.loads((out / "main" / "config.json").read_text())["tie_word_embeddings"] is False


def test_weights_of_losses_are_for_metro_alone(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="rtd_weight given, but T5ForConditionalGeneration is"):
        MetroTrainer(
            T5ForConditionalGeneration(T5Config(vocab_size=64, **SIZES)),
            arguments(tmp_path, rtd_weight=1.0),
        )


@pytest.mark.parametrize("source", [None, "random", "a folder"])
def test_metro_starts_from_a_t5(
    source: str | None, settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """With a rate of next to nothing, the main model that is saved is the one that was loaded."""
    sizes = {"vocab_size": len(tiny_tokenizer) + 3, "num_decoder_layers": 1, **SIZES}
    t5 = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes))
    t5.save_pretrained(tmp_path / "t5")
    rates = {"training.learning_rate": 1e-12, "training.max_steps": 1, "training.weight_decay": 0}
    given = None if source is None else str(source).replace("a folder", str(tmp_path / "t5"))
    start = {"model": None, "init": str(tmp_path / "t5"), "auxiliary": {"init": given}}
    out = pretrain(changed(settings, {**rates, **start}))
    saved = AutoModelForSeq2SeqLM.from_pretrained(out / "main").state_dict()
    assert all(torch.allclose(t5.state_dict()[name], saved[name], atol=1e-9) for name in saved)
    model = MetroForPretraining.from_pretrained(out)
    never = {*range(20), *range(len(tiny_tokenizer), len(tiny_tokenizer) + 3)}
    assert set(model.config.forbidden_token_ids) == never
    query = "encoder.block.0.layer.0.SelfAttention.q.weight"
    same = torch.allclose(model.auxiliary.state_dict()[query], saved[query], atol=1e-9)
    assert same == (source != "random")


def test_first_layers_that_are_not_there(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    sizes = {"vocab_size": len(tiny_tokenizer), "num_decoder_layers": 1, **SIZES}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    start = {"model": None, "init": str(tmp_path / "t5"), "auxiliary.num_layers": 2}
    with pytest.raises(MetroFastError, match="num_layers is 2, but the main encoder has 1 layers"):
        pretrain(changed(settings, start))


def test_a_vocabulary_may_be_padded(settings: dict[str, Any], tiny_tokenizer: Any) -> None:
    """Padded ids are never drawn, and the tokenizer keeps its size."""
    out = pretrain(changed(settings, {"model.vocab_multiple": 64, "training.max_steps": 1}))
    model = MetroForPretraining.from_pretrained(out)
    padded = set(range(len(tiny_tokenizer), model.config.vocab_size))
    assert model.config.vocab_size == 128
    assert padded <= set(model.config.forbidden_token_ids)

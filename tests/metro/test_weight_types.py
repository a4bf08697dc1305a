"""Weights that train are fp32 unless asked, at every door; a frozen base may keep its 16 bits."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from metro_cases import MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast._training.weight_types import widen_trained
from metro_fast.metro import MetroForPretraining, MetroTrainer, pretrain
from metro_fast.tuning import TuningOptions, finetune_model
from pretrain_cases import baseline, changed, small_run
from rank_cases import span_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

PAIRS = [("is it red ?", "yes"), ("is it a cat ?", "no")] * 4


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if "float32" in line and "bfloat16" in line]


def types(model: nn.Module, *, trained: bool = True) -> set[torch.dtype]:
    return {p.dtype for p in model.parameters() if p.requires_grad == trained}


def trainer_of(folder: Path, model: Any, **options: Any) -> MetroTrainer:
    metro = isinstance(model, MetroForPretraining)
    return MetroTrainer(
        model,
        arguments(folder, per_device_train_batch_size=8, learning_rate=1e-4, **options),
        train_dataset=Rows(),
        data_collator=MetroCollator() if metro else SpanCollator(),
    )


def share_moved(before: nn.Module, after: nn.Module) -> float:
    """The share of the elements with a gradient that a step has changed."""
    old = dict(before.named_parameters())
    pairs = [(old[n], p) for n, p in after.named_parameters() if n != "shared.weight"]
    moved = sum(int((a.float() != b.float()).sum()) for a, b in pairs)
    return moved / sum(p.numel() for _, p in pairs)


@pytest.mark.parametrize("make", [metro_model, span_model])
def test_the_trainer_trains_in_fp32_and_says_so_once(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make().bfloat16()
    exact = make()
    exact.load_state_dict(model.state_dict())
    trainer = trainer_of(tmp_path, model)
    trainer.train()
    trainer.train()
    assert len(said(caplog)) == 1
    assert types(model) == {torch.float32}
    caplog.clear()
    other = trainer_of(tmp_path, exact)
    other.train()
    other.train()
    assert not said(caplog)
    for a, b in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.equal(a, b)  # as if the weights had never had 16 bits
    trainer.save_model(tmp_path / "saved")
    assert type(model).from_pretrained(tmp_path / "saved").dtype == torch.float32


def test_in_bf16_most_weights_do_not_move_and_that_is_what_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = span_model()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    start = copy.deepcopy(model.bfloat16())
    wide = copy.deepcopy(start)
    trainer_of(tmp_path, model, sixteen_bit_weights=True).train()
    assert types(model) == {torch.bfloat16}
    assert not said(caplog)
    trainer_of(tmp_path, wide).train()
    assert share_moved(start, model) < 0.3
    assert share_moved(start, wide) > 0.9


def test_a_trainer_that_only_evaluates_leaves_the_weights_alone(tmp_path: Path) -> None:
    model = metro_model().bfloat16()
    trainer = MetroTrainer(
        model, arguments(tmp_path), eval_dataset=Rows(), data_collator=MetroCollator()
    )
    trainer.evaluate()
    assert types(model) == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_from_t5_loads_fp32(
    dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    span_model().to(dtype).save_pretrained(tmp_path)
    model = MetroForPretraining.from_t5(tmp_path, auxiliary_config={"num_layers": 1})
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    name = str(dtype).removeprefix("torch.")
    lines = [record.getMessage() for record in caplog.records if "float32" in record.getMessage()]
    assert len(lines) == 1
    assert f"{tmp_path} are {name}" in lines[0]
    expected = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in model.main.state_dict().items())


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_pretraining_from_16_bits_is_that_from_the_same_weights_in_fp32(
    objective: str,
    tiny_t5: "T5ForConditionalGeneration",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    half = tiny_t5.bfloat16()
    half.save_pretrained(tmp_path / "bfloat16")
    half.float().save_pretrained(tmp_path / "float32")
    settings = small_run(tmp_path, tiny_tokenizer)
    if objective != "metro":
        settings = baseline(settings, objective)
    found = {}
    for name in ("bfloat16", "float32"):
        caplog.clear()
        changes = {"init": str(tmp_path / name), "output": tmp_path / f"out-{name}", "model": None}
        out = pretrain(changed(settings, {**changes, "training.max_steps": 2}))
        found[name] = AutoModelForSeq2SeqLM.from_pretrained(out / "main")
        assert len(said(caplog)) == (name == "bfloat16")
    assert {p.dtype for p in found["bfloat16"].parameters()} == {torch.float32}
    for a, b in zip(*(model.parameters() for model in found.values()), strict=True):
        assert torch.equal(a, b)
    changes = {"init": str(tmp_path / "bfloat16"), "output": tmp_path / "asked", "model": None}
    asked = {"training.sixteen_bit_weights": True, "training.max_steps": 1}
    out = pretrain(changed(settings, {**changes, **asked}))
    assert AutoModelForSeq2SeqLM.from_pretrained(out / "main").dtype == torch.bfloat16


def test_finetuning_of_every_weight(
    tiny_t5: "T5ForConditionalGeneration",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = TuningOptions(steps=2, batch_size=4, warmup_steps=0, learning_rate=1e-4)
    half = tiny_t5.bfloat16()
    wide = copy.deepcopy(half).float()
    finetune_model(half, tiny_tokenizer, PAIRS, options)
    assert len(said(caplog)) == 1
    finetune_model(wide, tiny_tokenizer, PAIRS, options)
    for a, b in zip(half.parameters(), wide.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["ours", "narrow", "saved", "prompt", "ia3"])
def test_an_adapter_is_fp32_above_a_base_of_16_bits(
    kind: str,
    tiny_t5: "T5ForConditionalGeneration",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`modules_to_save` trains a whole layer, which needs inputs of its own type."""
    import peft

    task, model = "SEQ_2_SEQ_LM", tiny_t5.bfloat16()
    configs = {
        "narrow": peft.LoraConfig(task_type=task),
        "saved": peft.LoraConfig(task_type=task, modules_to_save=["final_layer_norm"]),
        "prompt": peft.PromptTuningConfig(task_type=task, num_virtual_tokens=2),
        "ia3": peft.IA3Config(task_type=task),
    }
    if kind in configs:
        model = peft.get_peft_model(model, configs[kind], autocast_adapter_dtype=False)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.bfloat16()
    options = TuningOptions(method="lora", steps=2, batch_size=4, warmup_steps=0)
    tuned = finetune_model(model, tiny_tokenizer, PAIRS, options)
    assert types(tuned) == {torch.float32}
    wide = torch.float32 if kind == "saved" else torch.bfloat16
    assert types(tuned, trained=False) == {wide}
    assert len(said(caplog)) == (kind != "ours")  # PEFT makes its own adapters fp32


def test_gradients_and_buffers_follow() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).half()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[0].bias.requires_grad_(requires_grad=False)
    assert widen_trained(model) == "float16"
    kept = [*model.parameters(), *model.buffers(), model[0].weight.grad]
    assert {t.dtype for t in kept if t.is_floating_point()} == {torch.float32}
    model.requires_grad_(requires_grad=False)
    assert widen_trained(model.half()) == ""

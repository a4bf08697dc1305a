"""The trainer's promises: one update however the batch is cut, and a resume that is bit-equal."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration, TrainerCallback

from log_lines import untimed
from metro_cases import (
    LENGTHS,
    MAIN,
    MetroCollator,
    Rows,
    SpanCollator,
    arguments,
    evaluation,
    gradient_rank,
    metro_model,
    one_step,
    resume_run,
)
from metro_fast._training.checkpoints import MARK, latest_checkpoint
from metro_fast._training.samplers import EpochSampler, LengthBucketSampler
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroForPretraining, MetroTrainer
from warm_processes import run_ranks, start

Gradients = dict[str, torch.Tensor]


def worst(expected: Gradients, found: Gradients) -> float:
    """Largest over parameters of max|difference| / max|gradient|; a gradient of 0 must be 0."""
    tiny = torch.finfo(torch.float32).tiny
    return max(
        ((expected[name] - found[name]).abs().max() / (expected[name].abs().max() + tiny)).item()
        for name in expected
    )


Step = tuple[Gradients, dict[tuple[int, int], int], dict[str, float]]


def two_ranks(folder: Path, *cases: dict[str, Any]) -> list[tuple[Step, Step]]:
    """The results of `one_step` on each of two gloo ranks (batch 2, accumulation 2), per case."""
    run_ranks(2, gradient_rank, folder, list(cases), folder=folder)
    ranks = [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]
    return list(zip(*ranks, strict=True))


@pytest.mark.slow
def test_one_update_however_the_batch_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """fp32, no dropout, the same 8 ragged rows: (8, 1), (2, 4), and 2 ranks of (2, 2)."""
    whole, drawn, line = one_step(tmp_path / "whole", 8, 1)
    cut, cut_drawn, cut_line = one_step(tmp_path / "cut", 2, 4)
    unmasked = (2, 3, 6, 7)  # the rows of rank 1
    plain, no_average, lonely = two_ranks(
        tmp_path, {}, {"average_tokens_across_devices": False}, {"unmasked": unmasked}
    )
    assert cut_drawn == drawn
    assert {**plain[0][1], **plain[1][1]} == drawn
    assert len(plain[0][1]) + len(plain[1][1]) == len(drawn)

    figures = {
        "(batch 2, accumulation 4)": worst(whole, cut),
        "2 ranks of (2, 2), rank 0": worst(whole, plain[0][0]),
        "2 ranks of (2, 2), rank 1": worst(whole, plain[1][0]),
    }
    stock_whole, _, _ = one_step(tmp_path / "stock8", 8, 1, stock=True)
    stock_cut, stock_drawn, _ = one_step(tmp_path / "stock2", 2, 4, stock=True)
    assert stock_drawn == drawn
    controls = {
        "stock (8, 1)": worst(whole, stock_whole),
        "stock (2, 4)": worst(whole, stock_cut),
    }
    few, few_drawn, _ = one_step(tmp_path / "few", 8, 1, unmasked=unmasked)
    assert lonely[0][1] == few_drawn
    assert lonely[1][1] == {}  # this rank has no masked token at all, and DDP does not hang
    figures["2 ranks, one without masks"] = worst(few, lonely[1][0])
    with capsys.disabled():
        print("\nmax|dg| / max|g|, worst parameter, against (batch 8, accumulation 1):")
        for name, figure in {**figures, **controls}.items():
            print(f"  {name:28} {figure:.2e}")
    assert max(figures.values()) <= 1e-5
    assert controls["stock (8, 1)"] <= 1e-5  # with one batch, both means agree
    assert controls["stock (2, 4)"] > 1e-5
    # transformers' own average of tokens over devices does not change our counts.
    assert worst(plain[0][0], no_average[0][0]) == 0.0
    names = ("loss", "mlm_loss", "lm_loss", "rtd_loss", "replace_ratio", "rtd_auc")
    alone = evaluation(tmp_path / "evaluation")
    for rank in range(2):  # each row is on one rank
        line_of_rank = torch.load(tmp_path / f"evaluation{rank}.pt")
        for name in names:
            assert line_of_rank[f"eval_{name}"] == pytest.approx(alone[f"eval_{name}"], rel=1e-6)
    for name in names:
        assert cut_line[name] == pytest.approx(line[name], rel=1e-5), name
        assert plain[0][2][name] == pytest.approx(line[name], rel=1e-5), name


OPTION_SETS: list[dict[str, Any]] = [
    {"decoding_target": "all", "label_smoothing": 0.1},
    {"rtd_target": "masked", "z_loss": 1e-3},
    {"weighted_lm_loss": True},
    {"rtd_only": True, "embedding_sharing": "token_rel_norm"},
    {"decoding_target": "masked_only", "rtd_head_kind": "simple"},
    {"rtd_head": "both", "embedding_sharing": "disentangled"},
    {"rtd_head": "decoder", "decoding_target": "all", "weighted_lm_loss": True},
    {"rtd_head": "both", "rtd_target": "masked", "decoding_target": "masked_only"},
    {"rtd_head": "none", "sampling_top_k": 4, "exclude_original": True},
    {"auxiliary_frozen_from": 0, "embedding_sharing": "none"},
    {"auxiliary_dropped_from": 0},
]


@pytest.mark.slow
def test_one_update_under_every_set_of_options(tmp_path: Path) -> None:
    """As above. A loss divided by its mean weight has no such promise, and differs."""
    divided = {"weighted_lm_loss": True, "divide_by_mean_weight": True}
    sets = [*OPTION_SETS, divided]
    unmasked = (2, 3, 6, 7)  # the rows of rank 1, which then has no masked token
    lonely = ({"model": options, "unmasked": unmasked} for options in OPTION_SETS)
    ranks = two_ranks(tmp_path, *({"model": options} for options in sets), *lonely)
    found = []
    for i, options in enumerate(OPTION_SETS):
        few, _, _ = one_step(tmp_path / f"few{i}", 8, 1, model=options, unmasked=unmasked)
        assert worst(few, ranks[len(sets) + i][0][0]) <= 1e-5, options
    for i, options in enumerate(sets):
        whole, drawn, _ = one_step(tmp_path / f"whole{i}", 8, 1, model=options)
        cut, cut_drawn, _ = one_step(tmp_path / f"cut{i}", 2, 4, model=options)
        assert cut_drawn == drawn
        found.append(max(worst(whole, cut), worst(whole, ranks[i][0][0])))
    assert max(found[:-1]) <= 1e-5
    assert found[-1] > 1e-5


@pytest.mark.slow
def test_killed_and_resumed_is_bit_equal_to_unbroken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dropout .1, 12 steps over 3 epochs, saved each 5, logged each 3, SIGKILL after step 8."""
    resume_run(tmp_path / "unbroken", resume=False, kill_after=0)
    errors = tmp_path / "errors.txt"
    broken = partial(resume_run, tmp_path / "broken")
    killed = start(partial(broken, resume=False, kill_after=8), errors=errors)
    killed.join(100)
    assert killed.exitcode == -signal.SIGKILL, errors.read_text()
    assert not (tmp_path / "broken" / "final.pt").exists()
    assert latest_checkpoint(tmp_path / "broken") == tmp_path / "broken" / "checkpoint-5"
    resumed = start(partial(broken, resume=True, kill_after=0), errors=errors)
    resumed.join(100)
    assert resumed.exitcode == 0, errors.read_text()

    runs = [tmp_path / name for name in ("unbroken", "broken")]
    weights = [torch.load(run / "final.pt") for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    history = [json.loads((run / "history.json").read_text()) for run in runs]
    lines = [untimed(h) for h in history]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [3, 6, 9, 12]
    with capsys.disabled():
        print("\nkilled at step 8, resumed from 5; losses by step, both runs:")
        for a, b in zip(*lines, strict=True):
            print(f"  {a['step']:3} {a['loss']!r} {b['loss']!r}")
        print(f"  {len(weights[0])} weight tensors, every bit equal")


def train(folder: Path, *, resume: bool = False, model: Any = None, **options: Any) -> MetroTrainer:
    trainer = MetroTrainer(
        model or metro_model(),
        arguments(folder, per_device_train_batch_size=4, **options),
        train_dataset=Rows(),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=MetroCollator(),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_half_written_checkpoint_is_skipped(tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    first = train(tmp_path, **options)
    (tmp_path / "checkpoint-4" / MARK).unlink()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    again = train(tmp_path, resume=True, model=metro_model(seed=5), **options)
    before, after = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(MetroFastError, match=r"has no metric_window\.json"):
        again.train(resume_from_checkpoint=str(tmp_path))
    (tmp_path / "checkpoint-4" / MARK).write_text("{")
    with pytest.raises(FormatError, match=r"metric_window\.json is damaged"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    (tmp_path / "checkpoint-4" / MARK).write_text('{"window": {"sums": [1]}, "files": {}}')
    with pytest.raises(FormatError, match="this objective needs"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    train(tmp_path, **options)
    path = tmp_path / "checkpoint-2" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=f"{name} is missing or does not have its"):
        train(tmp_path, resume=True, **options)


def test_a_checkpoint_written_again_is_whole_again(tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    train(tmp_path, **options)
    trainer = MetroTrainer(
        metro_model(),
        arguments(tmp_path, per_device_train_batch_size=4, **options),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    train(tmp_path, resume=True, **options)  # reads the mark


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="no whole checkpoint"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("sharing", ["none", "token", "token_rel_norm", "disentangled"])
def test_load_best_model_at_end(tmp_path: Path, sharing: str) -> None:
    trainer = train(
        tmp_path,
        model=metro_model(embedding_sharing=sharing),
        max_steps=3,
        learning_rate=0.3,  # the loss gets worse after the first step
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
    )
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    best = 1 + int(np.argmin(losses))
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    loaded = MetroForPretraining.from_pretrained(tmp_path / f"checkpoint-{best}").state_dict()
    assert all(torch.equal(loaded[n], t) for n, t in trainer.model.state_dict().items())


def test_gradient_checkpointing_under_the_trainer(tmp_path: Path) -> None:
    plain = train(tmp_path / "a", max_steps=2).state.log_history
    saved = train(tmp_path / "b", max_steps=2, gradient_checkpointing=True).state.log_history
    for a, b in zip(plain[:2], saved[:2], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_evaluation_is_exact_and_the_same_for_any_batch(tmp_path: Path) -> None:
    model, lines = metro_model(), []
    for size in (1, 2, 5):
        trainer = MetroTrainer(
            model,
            arguments(tmp_path, per_device_eval_batch_size=size),
            eval_dataset=Rows(LENGTHS[:5], seed=1),
            data_collator=MetroCollator(),
        )
        lines.append(trainer.evaluate())
    with torch.no_grad():
        output = model.eval()(**MetroCollator()([Rows(LENGTHS[:5], seed=1)[i] for i in range(5)]))
    detected = (output.rtd_logits >= 0) & output.replaced
    parts = {
        "eval_mlm_loss": output.mlm.sum / output.mlm.count,
        "eval_lm_loss": output.lm.sum / output.mlm.count,
        "eval_rtd_loss": output.rtd.sum / output.rtd.count,
        "eval_aux_accuracy": output.mlm.correct / output.mlm.count,
        "eval_replace_ratio": output.replaced.sum() / output.rtd.count,
        "eval_rtd_recall": detected.sum() / output.replaced.sum(),
    }
    for line in lines:
        for name, value in parts.items():
            assert line[name] == pytest.approx(value.item(), rel=1e-6), name
        total = line["eval_mlm_loss"] + line["eval_lm_loss"] + 50 * line["eval_rtd_loss"]
        assert line["eval_loss"] == pytest.approx(total, rel=1e-12)
    names = "lm_accuracy lm_replaced_accuracy rtd_accuracy rtd_auc"
    assert all(f"eval_{name}" in lines[0] for name in [*names.split(), "rtd_specificity"])


def test_log_lines_are_means_over_the_window(tmp_path: Path) -> None:
    frozen = {"max_steps": 2, "learning_rate": 1e-30}
    each = train(tmp_path / "a", logging_steps=1, **frozen).state.log_history[:2]
    both = train(tmp_path / "b", logging_steps=2, **frozen).state.log_history[0]
    tokens = [sum(LENGTHS[:4]), sum(LENGTHS[4:])]
    mean = sum(n * line["rtd_loss"] for n, line in zip(tokens, each, strict=True)) / sum(tokens)
    assert both["rtd_loss"] == pytest.approx(mean, rel=1e-6)
    assert both["loss"] == both["mlm_loss"] + both["lm_loss"] + 50 * both["rtd_loss"]


def test_weights_of_the_arguments_are_used_and_saved(tmp_path: Path) -> None:
    trainer = train(tmp_path, rtd_weight=5.0)
    line = trainer.state.log_history[0]
    expected = line["mlm_loss"] + line["lm_loss"] + 5 * line["rtd_loss"]
    assert line["loss"] == pytest.approx(expected)
    assert trainer.model.config.rtd_weight == 5.0
    with pytest.raises(MetroFastError, match="rtd_weight is -1"):
        train(tmp_path, rtd_weight=-1.0)


def span_model() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(**MAIN))


def test_span_objective_counts_label_tokens(tmp_path: Path) -> None:
    gradients, lines = [], []
    for batch, accumulation in ((8, 1), (2, 4)):
        trainer = MetroTrainer(
            span_model(),
            arguments(
                tmp_path,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                learning_rate=1e-30,
            ),
            train_dataset=Rows(),
            data_collator=SpanCollator(),
        )
        kept: Gradients = {}
        trainer.model.zero_grad = lambda *_, **__: None  # keeps the gradient after the step
        trainer.train()
        kept = {n: p.grad for n, p in trainer.model.named_parameters()}
        gradients.append(kept)
        lines.append(trainer.state.log_history[0])
    assert worst(gradients[0], gradients[1]) <= 1e-5
    b = SpanCollator()([Rows()[i] for i in range(8)])
    own = span_model()(
        input_ids=b["input_ids"], attention_mask=b["attention_mask"], labels=b["labels"]
    ).loss.item()
    for line in lines:
        assert line["loss"] == pytest.approx(own, rel=1e-5)
        assert "token_accuracy" in line
        assert "mlm_loss" not in line


def test_each_epoch_has_its_masks_and_order_also_after_resume(tmp_path: Path) -> None:
    options = {
        "max_steps": 6,  # 2 per epoch
        "save_strategy": "steps",
        "save_steps": 3,
        "train_sampling_strategy": "random",
    }
    unbroken = train(tmp_path, **options).data_collator.seen
    assert [epoch for epoch, _ in unbroken] == [0, 0, 1, 1, 2, 2]
    orders = [sum((ids for e, ids in unbroken if e == epoch), ()) for epoch in range(3)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len(set(orders)) == 3
    (tmp_path / "checkpoint-6" / MARK).unlink()
    resumed = train(tmp_path, resume=True, **options).data_collator.seen
    assert resumed == unbroken[3:]


def test_learning_rates_are_lower_for_weights_that_are_not_matrices(tmp_path: Path) -> None:
    trainer = train(
        tmp_path,
        embedding_multiplier=5.0,
        relative_bias_multiplier=20.0,
        lr_scheduler_type="constant",
    )
    rates = {g["name"]: g["lr"] for g in trainer.optimizer.param_groups}
    assert rates == pytest.approx(
        {"matrices": 1e-3, "vectors": 1e-3, "embeddings": 5e-3, "relative_bias": 2e-2}
    )
    with pytest.raises(MetroFastError, match=r"need optim=adamw_torch"):
        train(tmp_path, optim="sgd", embedding_multiplier=5.0)


def test_samplers_are_permutations_by_seed_and_epoch() -> None:
    lengths = [(7 * i) % 31 for i in range(103)]
    for sampler in (EpochSampler(103, 3), LengthBucketSampler(lengths, 10, 3)):
        first = list(sampler)
        assert sorted(first) == list(range(103))
        assert list(sampler) == first
        sampler.set_epoch(1)
        assert list(sampler) != first
    order = list(LengthBucketSampler(lengths, 10, 3))
    spread = [np.ptp([lengths[i] for i in order[s : s + 10]]) for s in range(0, 100, 10)]
    assert np.mean(spread) < 5  # about 28 without buckets
    with pytest.raises(MetroFastError, match="0 rows"):
        EpochSampler(0, 0)


def test_data_parallel_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(MetroFastError, match=r"torchrun --nproc-per-node=2"):
        MetroTrainer(metro_model(), args, train_dataset=Rows())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fp16": True}, "fp16=True"),
        ({"save_total_limit": 1}, "save_total_limit=1"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"seed": 2**32}, r"expected 0 <= seed < 2\*\*32"),
    ],
)
def test_arguments_refuse(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises((MetroFastError, ValueError), match=match):
        arguments(tmp_path, **options)


def test_ranks_without_a_process_group_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(tmp_path)
    assert args.world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MetroFastError, match=r"WORLD_SIZE is 2, but the trainer joined 1"):
        type(args).__mro__[1].__post_init__(args)


def test_defaults_fit_our_batches(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    assert args.remove_unused_columns is False
    assert args.accelerator_config.dispatch_batches is False
    assert args.ddp_find_unused_parameters is False
    assert args.report_to == []
    assert (args.adam_beta2, args.adam_epsilon, args.weight_decay) == (0.98, 1e-6, 0.01)


def test_wrong_models_and_arguments_are_refused(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    with pytest.raises(TypeError, match="expected MetroTrainingArguments"):
        MetroTrainer(metro_model(), TrainingArguments(output_dir=str(tmp_path)))
    with pytest.raises(TypeError, match="expected MetroForPretraining"):
        MetroTrainer(torch.nn.Linear(2, 2), arguments(tmp_path))
    with pytest.raises(MetroFastError, match="is trained with one loss"):
        MetroTrainer(span_model(), arguments(tmp_path, rtd_weight=1.0))
    with pytest.raises(MetroFastError, match="auto_find_batch_size"):
        MetroTrainer(metro_model(), arguments(tmp_path, auto_find_batch_size=True))


def test_a_batch_of_another_kind_is_refused(tmp_path: Path) -> None:
    trainer = MetroTrainer(
        metro_model(), arguments(tmp_path), train_dataset=Rows(), data_collator=SpanCollator()
    )
    with pytest.raises(MetroFastError, match=r"lacks masked_positions.*DataCollatorForMetro"):
        trainer.train()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, value: float) -> None:
    model = metro_model()
    with torch.no_grad():
        model.rtd_head.output.bias.fill_(value)
    with pytest.raises(MetroFastError, match=r"the loss is (inf|nan) at step 1"):
        train(tmp_path, model=model)


def test_no_checkpoint_is_written_after_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    class Break(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            if state.global_step == 3:
                kw["model"].rtd_head.output.bias.data.fill_(float("nan"))

    def run(folder: Path, **options: Any) -> None:
        MetroTrainer(
            metro_model(),
            arguments(folder, per_device_train_batch_size=4, max_steps=4, **options),
            train_dataset=Rows(),
            data_collator=MetroCollator(),
            callbacks=[Break()],
        ).train()

    saving = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    with pytest.raises(MetroFastError, match="the loss is nan at step 4"):
        run(tmp_path / "saving", logging_steps=50, **saving)
    assert [path.name for path in (tmp_path / "saving").glob("checkpoint-*")] == ["checkpoint-2"]
    with pytest.raises(MetroFastError, match="the loss is nan at step 4"):  # not a finished run
        run(tmp_path / "plain", logging_steps=50)


def test_half_written_checkpoints_are_removed_on_resume(tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    train(tmp_path, **options)
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-4" / MARK).unlink()
    train(tmp_path, resume=True, **options)
    marks = {path.name: (path / MARK).exists() for path in tmp_path.glob("checkpoint-*")}
    assert marks == {"checkpoint-2": True, "checkpoint-4": True}


def test_an_evaluation_of_other_rows_has_the_prefix_that_is_asked_for(tmp_path: Path) -> None:
    trainer = MetroTrainer(
        metro_model(),
        arguments(tmp_path, per_device_eval_batch_size=2),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=MetroCollator(),
    )
    line = trainer.evaluate()
    metrics = trainer.evaluate(Rows(LENGTHS[:5], seed=1), metric_key_prefix="test")
    assert metrics["test_loss"] == line["eval_loss"]

"""Evaluation changes nothing and is the same each time; so do prediction, generation and saving."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, Subset
from transformers import TrainerCallback

from metro_cases import LENGTHS, MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    TokenCorpus,
    write_corpus,
)
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer, pretrain
from metro_fast.ops import Vocabulary
from metro_fast.tuning import TuningOptions, finetune_model
from pretrain_cases import baseline, changed, history, small_run
from rank_cases import EVALUATED, span_model, steady_run
from streaming_cases import PlainStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

Weights = dict[str, torch.Tensor]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def draw() -> float:
    """Draw from every global generator."""
    return float(torch.rand(1)) + random.random() + np.random.rand()  # noqa: NPY002


class Draws(TrainerCallback):
    """Draws at an event, and samples a text from the model that is being trained."""

    def __init__(self, event: str) -> None:
        self.calls = 0

        def react(args: Any, state: Any, control: Any, **kw: Any) -> None:
            self.calls += 1
            draw()
            if "model" in kw:
                kw["model"].eval()
                ids = torch.arange(4, 12).view(1, 8)
                kw["model"].generate(input_ids=ids, do_sample=True, max_new_tokens=2)

        setattr(self, event, react)


class NoisyCollator(SpanCollator):
    """Replaces a token by one that it draws from a global generator, as many collators do."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(rows)
        batch["input_ids"][:, 0] = 4 + int(90 * draw() / 3)
        return batch


def trainer_of(folder: Path, callbacks: Sequence[Any] = (), **options: Any) -> MetroTrainer:
    collator, data = options.pop("collator", SpanCollator()), options.pop("data", None)
    return MetroTrainer(
        span_model(dropout_rate=0.1),
        arguments(folder, **{"per_device_train_batch_size": 3, "max_steps": 6, **options}),
        train_dataset=Rows((LENGTHS * 2)[:9]) if data is None else data,
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=collator,
        callbacks=list(callbacks),
    )


def run(trainer: MetroTrainer) -> tuple[list[float], Weights]:
    trainer.train()
    return [x["loss"] for x in trainer.state.log_history if "loss" in x], trainer.model.state_dict()


def test_losses_and_weights_of_metro_are_those_without_evaluations(tmp_path: Path) -> None:
    plain = steady_run(tmp_path / "a")
    for i, options in enumerate((EVALUATED, {"eval_strategy": "epoch", "save_strategy": "epoch"})):
        losses, weights = steady_run(tmp_path / str(i), **options)
        assert losses == plain[0]
        assert same(weights, plain[1])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["rows", "stream", "noisy"])
def test_a_collator_that_draws_and_a_stream_change_nothing_either(
    kind: str, workers: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dataloader_num_workers": workers}
    if kind == "noisy":
        options |= {"collator": NoisyCollator()}
    if kind == "stream":
        options |= {"data": PlainStream(9, LENGTHS * 2)}
    plain = run(trainer_of(tmp_path / "a", **options))
    found = run(trainer_of(tmp_path / "b", **options, **EVALUATED))
    assert found[0] == plain[0]
    assert same(found[1], plain[1])


@pytest.mark.parametrize(
    "event", ["on_step_end", "on_epoch_end", "on_log", "on_evaluate", "on_save", "on_step_begin"]
)
def test_a_callback_may_draw_and_generate(event: str, tmp_path: Path) -> None:
    plain = run(trainer_of(tmp_path / "a"))
    draws = Draws(event)
    found = run(trainer_of(tmp_path / "b", [draws], **EVALUATED))
    assert draws.calls > 1
    assert found[0] == plain[0]
    assert same(found[1], plain[1])


def test_evaluate_and_predict_before_and_between_runs(tmp_path: Path) -> None:
    plain = trainer_of(tmp_path / "a")
    first = run(plain)
    second = run(plain)
    other = trainer_of(tmp_path / "b")
    before = torch.get_rng_state(), random.getstate(), draw()
    other = trainer_of(tmp_path / "b")  # seeds the generators
    before = torch.get_rng_state(), random.getstate()
    figures = other.evaluate()
    ids = other.predict(Rows()).predictions
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert run(other)[0] == first[0]
    other.predict(Rows())
    other.evaluate(metric_key_prefix="test")
    other.save_model(tmp_path / "saved")
    assert same(run(other)[1], second[1])
    assert figures["eval_loss"] == trainer_of(tmp_path / "c").evaluate()["eval_loss"]
    assert (ids == trainer_of(tmp_path / "c").predict(Rows()).predictions).all()


def evaluations(trainer: MetroTrainer) -> list[float]:
    trainer.train()
    return [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]


FROZEN: dict[str, Any] = {"learning_rate": 1e-30, "eval_strategy": "steps", "eval_steps": 1}


def test_evaluations_of_the_same_weights_are_equal_in_every_epoch(tmp_path: Path) -> None:
    """Two updates an epoch, so three epochs; the collators draw masks by the epoch."""
    noisy = trainer_of(tmp_path, collator=NoisyCollator(), **FROZEN)
    for trainer in (noisy, *corpus_trainers(tmp_path)):
        losses = evaluations(trainer)
        assert len(losses) == 6
        assert len(set(losses)) == 1
        assert trainer.evaluate()["eval_loss"] == losses[0]
        training = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        assert len(set(training)) == 6  # the training has new masks in each epoch


def corpus_trainers(folder: Path) -> list[MetroTrainer]:
    """Corpora that share a collator, one corpus for both, parts of one, and a plain dataset."""
    draw_ids = np.random.default_rng(0)
    write_corpus(folder / "corpus", [draw_ids.integers(4, 90, 160)])
    write_corpus(folder / "held out", [draw_ids.integers(4, 90, 80)])
    noise = {"mask_token_id": 3, "vocab_size": 97, "pad_token_id": 0, "seed": 1}
    sizes: dict[str, Any] = {"block_size": 20}

    def trainer(train: Any, held_out: Any, collator: Any) -> MetroTrainer:
        options = {"per_device_train_batch_size": 4, "max_steps": 6, **FROZEN}
        return MetroTrainer(
            metro_model(),
            arguments(folder, **options),
            train_dataset=train,
            eval_dataset=held_out,
            data_collator=collator,
        )

    shared = DataCollatorForMetro(**noise)
    corpora = [
        TokenCorpus(folder / name, collator=shared, **sizes) for name in ("corpus", "held out")
    ]
    alone = DataCollatorForMetro(**noise)
    whole = TokenCorpus(folder / "corpus", collator=alone, **sizes)
    outside = DataCollatorForMetro(**noise)
    shuffled = TokenCorpus(folder / "corpus", shuffle=True, seed=3, **sizes)
    return [
        trainer(*corpora, shared),
        trainer(whole, whole, alone),
        trainer(whole, Subset(whole, range(4)), alone),
        trainer(shuffled, Subset(shuffled, range(3)), outside),
        trainer(Rows(), Rows(LENGTHS[:5], seed=1), MetroCollator()),
    ]


def test_the_training_keeps_its_own_epoch_while_workers_read_ahead(tmp_path: Path) -> None:
    """The evaluation has a copy of the collator: the epoch is in memory that workers share."""
    found = []
    for i, evaluate in enumerate(("no", "steps")):
        collator = DataCollatorForSpanCorruption(
            vocabulary=Vocabulary(
                sentinel_first=96, num_sentinels=8, eos_token_id=1, pad_token_id=0
            )
        )
        rows = [{"input_ids": list(range(4, 40)), "sample_id": row} for row in range(8)]
        trainer = MetroTrainer(
            span_model(),
            arguments(
                tmp_path / str(i),
                max_steps=12,
                per_device_train_batch_size=2,
                dataloader_num_workers=2,
                dataloader_persistent_workers=True,
                eval_strategy=evaluate,
                eval_steps=1,
            ),
            train_dataset=rows,
            eval_dataset=rows,
            data_collator=collator,
        )
        found.append(run(trainer))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


class Uncopyable(SpanCollator):
    def set_epoch(self, epoch: int) -> None:
        pass

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot pickle 'generator' object")


def test_a_collator_with_epochs_that_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match=r"Uncopyable has epochs, so an evaluation needs a co"):
        trainer_of(tmp_path, collator=Uncopyable()).evaluate()


class Swapping(torch.optim.SGD):
    """Evaluates other weights than it trains, and rounds on its way back, as schedule-free does."""

    def eval(self) -> None:
        self._scale(1.1)

    def train(self) -> None:
        self._scale(1 / 1.1)

    def _scale(self, factor: float) -> None:
        if getattr(self, "factor", 1 / 1.1) != factor:
            self.factor = factor
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.data *= factor


def test_an_optimizer_that_swaps_the_weights_gets_its_own_back(tmp_path: Path) -> None:
    found = []
    for options in ({}, EVALUATED):
        trainer = MetroTrainer(
            span_model(dropout_rate=0.1),
            arguments(tmp_path, per_device_train_batch_size=3, max_steps=6, **options),
            train_dataset=Rows(),
            eval_dataset=Rows(LENGTHS[:5], seed=1),
            data_collator=SpanCollator(),
            optimizer_cls_and_kwargs=(Swapping, {"lr": 0.01}),
        )
        found.append(run(trainer))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_finetuning_is_the_same_with_and_without_evaluations(
    tiny_t5: "T5ForConditionalGeneration",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    tmp_path: Path,
) -> None:
    pairs = [("is it red ?", "yes"), ("is the cat big ?", "no"), ("what is it ?", "a dog")] * 3
    start = {name: tensor.clone() for name, tensor in tiny_t5.state_dict().items()}
    found = []
    for steps in (0, 1):
        tiny_t5.load_state_dict(start)
        options = TuningOptions(
            steps=5, batch_size=4, warmup_steps=0, logging_steps=1, evaluation_steps=steps
        )
        folder = tmp_path / str(steps)
        finetune_model(
            tiny_t5, tiny_tokenizer, pairs, options, output=folder, evaluation_pairs=pairs[:2]
        )
        losses = [line["loss"] for line in history(folder) if "loss" in line]
        found.append((losses, {n: t.clone() for n, t in tiny_t5.state_dict().items()}))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_pretraining_is_the_same_with_and_without_evaluations(
    objective: str, tiny_tokenizer: "PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    settings = small_run(tmp_path, tiny_tokenizer)
    if objective != "metro":
        settings = baseline(settings, objective)
    found = []
    for i, own in enumerate(({}, {"training.eval_strategy": "steps", "training.eval_steps": 1})):
        steps = {"training.logging_steps": 1, "output": tmp_path / str(i)}
        out = pretrain(changed(settings, {**steps, **own}))
        found.append([line["loss"] for line in history(out) if "loss" in line])
    assert found[0] == found[1]


class Endless(IterableDataset[Any]):
    """Rows of metro_cases without a length."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        rows = Rows(LENGTHS, seed=1)
        return (rows[i] for i in range(self.count))


def test_a_stream_may_be_the_evaluation_set(tmp_path: Path) -> None:
    make: Callable[..., MetroTrainer] = trainer_of
    trainer = make(tmp_path, dataloader_num_workers=2)
    rows = [Rows(LENGTHS, seed=1)[i] for i in range(7)]
    expected = trainer.evaluate(rows)
    found = trainer.evaluate(Endless(7))
    assert found["eval_loss"] == expected["eval_loss"]
    assert found["eval_tokens"] == expected["eval_tokens"]
    assert (trainer.predict(Endless(7)).label_ids == trainer.predict(rows).label_ids).all()
    with pytest.raises(TypeError, match="generator has no length, which evaluation needs: give it"):
        trainer.evaluate(iter(rows) and (row for row in rows))

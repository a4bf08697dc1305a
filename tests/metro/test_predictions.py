"""compute_metrics, predict and their relatives: each works, or is refused by its name."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

from metro_cases import LENGTHS, MAIN, MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroTrainer
from warm_processes import run_ranks


class FixedMasks(MetroCollator):
    """The same masks in every epoch, so that equal weights have equal figures."""

    def set_epoch(self, epoch: int) -> None:
        pass


def span_model() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(**MAIN))


def exact_match(found: Any) -> dict[str, float]:
    scored = found.label_ids != -100
    same = (found.predictions == found.label_ids) & scored
    return {"own_accuracy": same.sum() / scored.sum(), "rows": len(found.label_ids)}


def span_trainer(folder: Path, batch: int = 2, **options: Any) -> MetroTrainer:
    parts = {n: options.pop(n) for n in ("compute_metrics",) if n in options}
    return MetroTrainer(
        span_model(),
        arguments(folder, per_device_eval_batch_size=batch, **options),
        train_dataset=Rows(),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=SpanCollator(),
        **parts,
    )


def row_by_row() -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids and labels of each row alone, from the plain model."""
    found, model = [], span_model().eval()
    for i in range(5):
        batch = SpanCollator()([Rows(LENGTHS[:5], seed=1)[i]])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], labels=batch["labels"]).logits
        found.append((logits.argmax(-1)[0].numpy(), batch["labels"][0].numpy()))
    return found


def check_rows(ids: np.ndarray, labels: np.ndarray) -> None:
    for i, (own_ids, own_labels) in enumerate(row_by_row()):
        n = len(own_labels)
        assert ids[i, :n].tolist() == own_ids.tolist()
        assert labels[i, :n].tolist() == own_labels.tolist()
        assert (ids[i, n:] == -100).all()
        assert (labels[i, n:] == -100).all()


def test_predictions_are_those_of_each_row_alone(tmp_path: Path) -> None:
    trainer = span_trainer(tmp_path, compute_metrics=exact_match, eval_accumulation_steps=1)
    output = trainer.predict(Rows(LENGTHS[:5], seed=1))
    check_rows(output.predictions, output.label_ids)
    line = trainer.evaluate()
    assert line["eval_rows"] == 5
    assert line["eval_own_accuracy"] == pytest.approx(line["eval_token_accuracy"])
    assert output.metrics["test_own_accuracy"] == line["eval_own_accuracy"]


def predicting_rank(folder: Path) -> None:
    output = span_trainer(folder).predict(Rows(LENGTHS[:5], seed=1))
    np.savez(folder / f"rank{os.environ['RANK']}.npz", ids=output[0], labels=output[1])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)


@pytest.mark.slow  # two processes
def test_two_ranks_with_unequal_numbers_of_rows_have_the_same_predictions(tmp_path: Path) -> None:
    run_ranks(2, predicting_rank, tmp_path, folder=tmp_path)
    for rank in range(2):
        found = np.load(tmp_path / f"rank{rank}.npz")
        check_rows(found["ids"], found["labels"])


def metro_trainer(folder: Path, options: dict[str, Any], **args: Any) -> MetroTrainer:
    return MetroTrainer(
        metro_model(),
        arguments(folder, **args),
        train_dataset=Rows(),
        eval_dataset=Rows(),
        data_collator=MetroCollator(),
        **options,
    )


@pytest.mark.parametrize(
    ("options", "args", "message"),
    [
        ({"compute_metrics": exact_match}, {}, "compute_metrics would not be called"),
        ({"compute_loss_func": exact_match}, {}, "compute_loss_func would not be called"),
        (
            {"preprocess_logits_for_metrics": exact_match},
            {},
            "preprocess_logits_for_metrics would not be called",
        ),
        ({}, {"include_for_metrics": ["inputs"]}, "include_for_metrics has no effect"),
        ({}, {"batch_eval_metrics": True}, "batch_eval_metrics=True has no effect"),
        ({}, {"eval_do_concat_batches": False}, "eval_do_concat_batches=False has no effect"),
        ({}, {"label_names": ["targets"]}, "label_names has no effect"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    tmp_path: Path, options: dict[str, Any], args: dict[str, Any], message: str
) -> None:
    with pytest.raises(MetroFastError, match=message):
        metro_trainer(tmp_path, options, **args)


def test_what_a_call_cannot_do_is_refused(tmp_path: Path) -> None:
    trainer = metro_trainer(tmp_path, {})
    with pytest.raises(MetroFastError, match="no predictions: use evaluate"):
        trainer.predict(Rows())
    with pytest.raises(MetroFastError, match="ignore_keys is"):
        trainer.evaluate(ignore_keys=["logits"])
    with pytest.raises(MetroFastError, match="ignore_keys is"):
        trainer.train(ignore_keys_for_eval=["logits"])
    with pytest.raises(MetroFastError, match="prediction_loss_only is True: leave one"):
        span_trainer(tmp_path, compute_metrics=exact_match, prediction_loss_only=True)
    with pytest.raises(MetroFastError, match="returned eval_loss, which the evaluation has"):
        span_trainer(tmp_path, compute_metrics=lambda _: {"loss": 1.0}).evaluate()
    args = Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, use_cpu=True)
    with pytest.raises(TypeError, match="predict_with_generate belongs to Seq2SeqTrainer"):
        MetroTrainer(metro_model(), args)


@pytest.mark.parametrize("sharing", ["none", "token", "token_rel_norm"])
def test_the_best_model_by_our_figures_is_loaded_without_alarm(
    tmp_path: Path, sharing: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("transformers").propagate = True
    options = {
        "max_steps": 3,
        "learning_rate": 0.1,
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_rtd_auc",
    }
    for resume in (False, True):
        trainer = MetroTrainer(
            metro_model(embedding_sharing=sharing),
            arguments(tmp_path, **options),
            train_dataset=Rows(),
            eval_dataset=Rows(LENGTHS[:5], seed=1),
            data_collator=FixedMasks(),
        )
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1") if resume else None)
    aucs = {x["step"]: x["eval_rtd_auc"] for x in trainer.state.log_history if "eval_loss" in x}
    best = max(aucs, key=lambda step: aucs[step])
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert trainer.evaluate()["eval_rtd_auc"] == aucs[best]
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """A layer is in the model, but not in the checkpoint; and the other way round."""
    for first, second, found in ((1, 2, "lacks"), (2, 1, "has, unlike the model,")):
        for layers, steps in ((first, 1), (second, 2)):
            options = {**MAIN, "num_decoder_layers": layers}
            trainer = MetroTrainer(
                T5ForConditionalGeneration(T5Config(**options)),
                arguments(tmp_path / found, max_steps=steps, save_strategy="steps", save_steps=1),
                train_dataset=Rows(),
                data_collator=SpanCollator(),
            )
            if steps == 1:
                trainer.train()
        with pytest.raises(FormatError, match=rf"{found} decoder\.block\.1\.layer"):
            trainer.train(resume_from_checkpoint=True)

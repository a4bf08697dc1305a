"""Arguments of transformers' Trainer that pass through: each trains, with the update of none."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from metro_cases import MetroCollator, Rows, arguments, metro_model
from metro_fast.metro import MetroTrainer


def train(folder: Path, **options: Any) -> MetroTrainer:
    trainer = MetroTrainer(
        metro_model(),
        arguments(folder, **{"per_device_train_batch_size": 4, "max_steps": 2, **options}),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
    )
    trainer.train()
    return trainer


def losses(trainer: MetroTrainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_gradient_checkpointing_computes_blocks_again(tmp_path: Path) -> None:
    calls = []

    def count(module: torch.nn.Module, *given: Any) -> None:
        if type(module).__name__ == "T5LayerSelfAttention":
            calls.append(module)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        plain = train(tmp_path)
        once = len(calls)
        saving = train(tmp_path, gradient_checkpointing=True)
    finally:
        handle.remove()
    assert len(calls) - once == 2 * once
    assert losses(saving) == pytest.approx(losses(plain), rel=1e-6)


@pytest.mark.slow
def test_compiled_training_has_the_same_losses(tmp_path: Path) -> None:
    """Tracing takes ten seconds. The backend runs the traced graphs as they are."""
    compiled = train(tmp_path, torch_compile=True, torch_compile_backend="aot_eager")
    assert losses(compiled) == pytest.approx(losses(train(tmp_path)), rel=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("service", ["tensorboard", "wandb"])
def test_figures_are_reported_to_services(
    tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec(service) is None:
        with pytest.raises(RuntimeError, match=f"requires {service} to be installed"):
            train(tmp_path, report_to=service)
        return
    train(tmp_path, report_to=service)
    if service == "wandb":
        importlib.import_module(service).finish()  # the file is whole after this
    pattern = {"tensorboard": "**/events.out.tfevents.*", "wandb": "**/*.wandb"}[service]
    assert any(b"mlm_loss" in path.read_bytes() for path in tmp_path.glob(pattern))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, save_strategy="steps", save_steps=1, max_steps=5, save_total_limit=2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-4", "checkpoint-5"}


def test_checkpoints_are_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []

    def push(trainer: Trainer, folder: str) -> None:
        pushed.append(f"{trainer.args.hub_model_id} {Path(folder).name}")

    monkeypatch.setattr(Trainer, "init_hf_repo", lambda trainer, *given: None)
    monkeypatch.setattr(Trainer, "_push_from_checkpoint", push)
    options = {"push_to_hub": True, "hub_model_id": "someone/model"}
    train(tmp_path, save_strategy="steps", save_steps=1, **options)
    assert pushed == ["someone/model checkpoint-1", "someone/model checkpoint-2"]

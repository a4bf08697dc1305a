"""Every field, option and method of transformers' Trainer: honored, refused or irrelevant."""

import ast
import dataclasses
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from transformers import EarlyStoppingCallback, Seq2SeqTrainingArguments, Trainer, TrainerCallback
from transformers.trainer_pt_utils import AcceleratorConfig

import trainer_options
from metro_cases import LENGTHS, MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast._training.checkpoints import MARK
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer, MetroTrainingArguments
from rank_cases import span_model
from streaming_cases import PlainStream
from trainer_options import ACCELERATE, ALSO_REFUSED, CONSTRUCTOR, METHODS, REFUSED, verdicts

ROOT = Path(__file__).resolve().parents[2]


def trainer_of(folder: Path, model: Any = None, **options: Any) -> MetroTrainer:
    """A trainer of span corruption, or of METRO if such a model is given; not yet run."""
    own = {
        name: options.pop(name)
        for name in (*inspect.signature(Trainer.__init__).parameters, "missing")
        if name in options
    }
    return MetroTrainer(
        span_model() if model is None else model,
        arguments(folder, **{"per_device_train_batch_size": 4, "max_steps": 2, **options}),
        **{
            "train_dataset": Rows(),
            "eval_dataset": Rows(LENGTHS[:5], seed=1),
            "data_collator": SpanCollator() if model is None else MetroCollator(),
            **own,
        },
    )


def lines_of(trainer: MetroTrainer, key: str = "loss") -> list[tuple[int, float]]:
    return [(x["step"], x[key]) for x in trainer.state.log_history if key in x]


# The tables


def unlisted(found: Any, listed: Any) -> list[str]:
    return sorted(set(found) - set(listed))


@pytest.mark.parametrize("kind", [MetroTrainingArguments, Seq2SeqTrainingArguments])
def test_every_field_has_a_verdict(kind: type) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    assert not unlisted(names, verdicts()), "decide: honored, refused or irrelevant"


def test_every_setting_option_and_method_has_a_verdict() -> None:
    settings = [field.name for field in dataclasses.fields(AcceleratorConfig)]
    assert not unlisted(settings, ACCELERATE)
    options = inspect.signature(Trainer.__init__).parameters
    assert not unlisted(options, ["self", *CONSTRUCTOR])
    methods = [name for name in dir(Trainer) if not name.startswith("_")]
    assert not unlisted(methods, METHODS)


def test_a_new_field_or_method_is_named() -> None:
    @dataclasses.dataclass
    class Later(MetroTrainingArguments):
        train_faster: bool = False

    names = [field.name for field in dataclasses.fields(Later)]
    assert unlisted(names, verdicts()) == ["train_faster"]


def test_every_test_that_is_named_exists() -> None:
    found: dict[str, set[str]] = {}
    for verdict in {*verdicts().values(), *ACCELERATE.values(), *CONSTRUCTOR.values()} | {
        *METHODS.values()
    }:
        assert verdict.kind in ("honored", "refused", "irrelevant")
        if verdict.kind == "irrelevant":
            assert len(verdict.shown) > 20
            continue
        name, _, test = verdict.shown.partition("::")
        if name not in found:
            tree = ast.parse((ROOT / name).read_text())
            found[name] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert test in found[name], verdict.shown


def test_the_page_has_the_tables() -> None:
    page = (ROOT / "docs" / "trainer-options.md").read_text()
    assert trainer_options.embedded(page) == page, (
        "run python tests/support/trainer_options.py --write docs/trainer-options.md"
    )


# Refusals


@pytest.mark.parametrize("name", [*REFUSED, *ALSO_REFUSED])
def test_a_field_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    value = {**REFUSED, **ALSO_REFUSED}[name]
    with pytest.raises(MetroFastError, match=rf"^{name}\b.*: |^{name} is .*: "):
        arguments(tmp_path, **{name: value})
    args = arguments(tmp_path)
    setattr(args, name, value)  # an attribute that was set later is seen as well
    with pytest.raises(MetroFastError, match=name):
        MetroTrainer(span_model(), args, train_dataset=Rows(), data_collator=SpanCollator())


def test_defaults_are_not_refused(tmp_path: Path) -> None:
    """A field of a default value that is refused would make the trainer useless."""
    args = arguments(tmp_path)
    for name in REFUSED:
        again = dataclasses.replace(args, **{name: getattr(args, name)})
        assert getattr(again, name) == getattr(args, name)


def test_fields_of_another_trainer_are_refused(tmp_path: Path) -> None:
    for name, value in (
        ("sortish_sampler", True),
        ("predict_with_generate", True),
        ("generation_max_length", 4),
        ("generation_num_beams", 2),
        ("generation_config", "folder"),
    ):
        args = Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True, **{name: value})
        with pytest.raises(TypeError, match=rf"{name} belongs to Seq2SeqTrainer, so call model"):
            MetroTrainer(metro_model(), args)


def test_searches_are_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(MetroFastError, match="hyperparameter_search was called, but a trial wou"):
        trainer.hyperparameter_search(n_trials=2)
    with pytest.raises(MetroFastError, match="trial is given, but"):
        trainer.train(trial={"learning_rate": 1e-3})
    with pytest.raises(MetroFastError, match="model_init is given"):
        trainer_of(tmp_path, model_init=span_model)


@pytest.mark.parametrize("name", ["deepspeed", "fsdp"])
def test_what_a_launcher_chooses_is_refused_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = Trainer.create_accelerator_and_postprocess

    def create(trainer: Trainer) -> None:
        stock(trainer)
        setattr(trainer, f"is_{name}_enabled", True)

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", create)
    with pytest.raises(MetroFastError, match=f"{name}, chosen by the launcher"):
        trainer_of(tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(MetroFastError, match="ACCELERATE_MIXED_PRECISION is fp16"):
        arguments(tmp_path)


def test_settings_of_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("split_batches", "dispatch_batches"):
        with pytest.raises(MetroFastError, match=f"accelerator_config has {name}=True, which"):
            arguments(tmp_path, accelerator_config={name: True})
    plain = trainer_of(tmp_path)
    plain.train()
    same = {"even_batches": False, "use_seedable_sampler": False, "non_blocking": True}
    moved: list[bool] = []
    module = "metro_fast._training.trainer.send_to_device"

    def move(batch: Any, device: Any, non_blocking: bool) -> Any:
        moved.append(non_blocking)
        return batch

    monkeypatch.setattr(module, move)
    other = trainer_of(tmp_path, accelerator_config=same)
    other.train()
    assert moved == [True] * 2
    assert lines_of(other) == lines_of(plain)
    steps = trainer_of(
        tmp_path,
        per_device_train_batch_size=2,
        accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 2}},
    )
    assert steps.args.gradient_accumulation_steps == 2
    steps.train()
    assert lines_of(steps) == [(s, pytest.approx(x, rel=1e-5)) for s, x in lines_of(plain)]
    for state in (
        transformers.training_args.AcceleratorState,
        transformers.training_args.PartialState,
    ):
        monkeypatch.setattr(state, "_shared_state", {})
    with pytest.raises(ValueError, match="use_configured_state"):
        arguments(tmp_path, accelerator_config={"use_configured_state": True})


# Honored


@pytest.mark.parametrize("name", ["linear", "cosine_with_min_lr"])
def test_the_schedule_is_that_of_the_arguments(name: str, tmp_path: Path) -> None:
    more = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}} if "cosine" in name else {}
    trainer = trainer_of(
        tmp_path, lr_scheduler_type=name, learning_rate=0.01, warmup_steps=2, max_steps=6, **more
    )
    trainer.train()

    def rate(step: int) -> float:
        if step < 2:
            return 0.01 * step / 2
        done = (step - 2) / 4
        if name == "linear":
            return 0.01 * (1 - done)
        return 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)

    expected = [(step + 1, pytest.approx(rate(step), abs=1e-12)) for step in range(6)]
    assert lines_of(trainer, "learning_rate") == expected


def test_the_optimizer_has_its_settings(tmp_path: Path) -> None:
    betas = {"adam_beta1": 0.7, "adam_beta2": 0.8, "adam_epsilon": 1e-4, "weight_decay": 0.3}
    adam = trainer_of(tmp_path, **betas).create_optimizer()
    assert isinstance(adam, torch.optim.AdamW)
    for group in adam.param_groups:
        assert (group["betas"], group["eps"]) == ((0.7, 0.8), 1e-4)
        assert group["weight_decay"] == (0.3 if group["name"] == "matrices" else 0.0)
    sgd = trainer_of(tmp_path, optim="sgd", optim_args="momentum=0.5").create_optimizer()
    assert isinstance(sgd, torch.optim.SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.5}


def test_the_gradient_is_cut_to_its_norm(tmp_path: Path) -> None:
    model = span_model()
    before = [weight.detach().clone() for weight in model.parameters()]
    options = {"optim": "sgd", "lr_scheduler_type": "constant", "learning_rate": 1.0}
    trainer = MetroTrainer(
        model,
        arguments(tmp_path, **options, max_grad_norm=0.125, weight_decay=0.0),
        train_dataset=Rows(),
        data_collator=SpanCollator(),
    )
    trainer.train()
    moved = sum(
        (a.detach() - b).square().sum() for a, b in zip(model.parameters(), before, strict=True)
    ).sqrt()
    assert float(moved) == pytest.approx(0.125, rel=1e-4)


def test_lines_evaluations_and_checkpoints_come_when_they_are_asked_for(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path,
        max_steps=8,
        logging_steps=3,
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=2,
        eval_delay=4,
        save_strategy="steps",
        save_steps=5,
    )
    trainer.train()
    assert [step for step, _ in lines_of(trainer)] == [1, 3, 6]
    assert [step for step, _ in lines_of(trainer, "eval_loss")] == [4, 6, 8]
    saved = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert saved == {"checkpoint-5", "checkpoint-8"}
    each = {"logging_strategy": "epoch", "eval_strategy": "epoch", "save_strategy": "epoch"}
    trainer = trainer_of(tmp_path / "epochs", max_steps=4, eval_on_start=True, **each)
    trainer.train()
    assert [step for step, _ in lines_of(trainer)] == [2, 4]
    assert [step for step, _ in lines_of(trainer, "eval_loss")] == [0, 2, 4]
    best = {"save_strategy": "best", "metric_for_best_model": "loss", "eval_steps": 1}
    trainer = trainer_of(tmp_path / "best", max_steps=3, eval_strategy="steps", **best)
    trainer.train()
    assert (tmp_path / "best" / f"checkpoint-{trainer.state.best_global_step}" / MARK).exists()


def test_bf16_computes_in_bf16_and_keeps_fp32_weights(tmp_path: Path) -> None:
    model = span_model()
    outputs: list[torch.dtype] = []
    model.encoder.block[0].layer[0].SelfAttention.q.register_forward_hook(
        lambda module, inputs, output: outputs.append(output.dtype)
    )
    trainer = MetroTrainer(
        model,
        arguments(tmp_path, bf16=True),
        train_dataset=Rows(),
        eval_dataset=Rows(),
        data_collator=SpanCollator(),
    )
    trainer.train()
    trainer.evaluate()
    assert set(outputs) == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_tf32_is_switched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switched: list[bool] = []
    arguments_module = transformers.training_args
    monkeypatch.setattr(arguments_module, "is_torch_tf32_available", lambda: True)
    monkeypatch.setattr(arguments_module, "enable_tf32", switched.append)
    for value in (True, False):
        arguments(tmp_path, tf32=value)
    assert switched == [True, False]
    monkeypatch.setattr(arguments_module, "is_torch_tf32_available", lambda: False)
    with pytest.raises(ValueError, match="tf32 requires Ampere"):
        arguments(tmp_path, tf32=True)


def forwards(folder: Path, **options: Any) -> int:
    """Forward passes of the self-attention of a METRO model in one step."""
    calls = []
    model = metro_model(main={"num_layers": 4, "num_decoder_layers": 4})
    for module in model.modules():
        if type(module).__name__ == "T5LayerSelfAttention":
            module.register_forward_pre_hook(lambda *given: calls.append(1))
    trainer_of(folder, model, max_steps=1, **options).train()
    return len(calls)


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
def test_activations_are_computed_again(tmp_path: Path) -> None:
    plain = forwards(tmp_path)
    assert plain == 9  # one auxiliary layer, four and four
    assert forwards(tmp_path, gradient_checkpointing=True) == 2 * plain
    kwargs = {"use_reentrant": False}
    old = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": kwargs}
    assert forwards(tmp_path, **old) == 2 * plain
    names = {field.name for field in dataclasses.fields(MetroTrainingArguments)}
    if "activation_checkpointing" not in names:
        return  # before transformers 5.20
    assert forwards(tmp_path, activation_checkpointing=True) == 2 * plain
    every = {"activation_checkpointing_kwargs": {"every_n_layers": 2}}
    assert plain < forwards(tmp_path, activation_checkpointing=True, **every) < 2 * plain


def test_small_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    stock = transformers.trainer
    monkeypatch.setattr(stock, "clear_device_cache", lambda: calls.append("cleared"))
    trainer_of(tmp_path, torch_empty_cache_steps=1, max_steps=3).train()
    assert calls == ["cleared"] * 3
    monkeypatch.setattr(stock, "enable_full_determinism", lambda seed: calls.append(f"{seed}"))
    trainer_of(tmp_path, full_determinism=True, seed=17)
    assert calls[-1] == "17"
    monkeypatch.setattr(stock, "DebugUnderflowOverflow", lambda model: calls.append("watched"))
    trainer_of(tmp_path, debug="underflow_overflow").train()
    assert calls[-1] == "watched"
    for value in (True, False):
        trainer = trainer_of(tmp_path, use_cache=value)
        assert trainer.model.config.use_cache == value
    assert trainer_of(tmp_path, use_cpu=True).model.device.type == "cpu"
    assert trainer_of(tmp_path, prediction_loss_only=True).predict(Rows()).predictions is None
    assert trainer_of(tmp_path).predict(Rows()).predictions is not None
    trainer = trainer_of(tmp_path, skip_memory_metrics=False)
    trainer.train()
    assert any("train_mem_cpu_alloc_delta" in line for line in trainer.state.log_history)


def test_the_timeout_of_ddp_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator; test_ranks.py has the CPU, where it is refused."""
    given: dict[str, Any] = {}

    def state(**options: Any) -> Any:
        given.update(options)
        raise InterruptedError

    monkeypatch.setattr(transformers.training_args, "PartialState", state)
    with pytest.raises(InterruptedError):
        arguments(tmp_path, use_cpu=False, ddp_timeout=321)
    assert given["timeout"].total_seconds() == 321


def test_the_level_of_the_log_is_set(tmp_path: Path) -> None:
    before = transformers.logging.get_verbosity()
    try:
        trainer_of(tmp_path, log_level="error")
        assert transformers.logging.get_verbosity() == transformers.logging.ERROR
    finally:
        transformers.logging.set_verbosity(before)

    class Second(MetroTrainingArguments):
        """The arguments as the first process of a second machine sees them."""

        process_index = 1
        local_process_index = 0

    def second(**options: Any) -> Second:
        return Second(str(tmp_path), use_cpu=True, log_level_replica="critical", **options)

    assert second().get_process_log_level() != transformers.logging.CRITICAL
    quiet = second(log_on_each_node=False)
    assert quiet.get_process_log_level() == transformers.logging.CRITICAL
    assert [second(save_on_each_node=value).should_save for value in (True, False)] == [True, False]


def test_callbacks_of_services_get_the_arguments(tmp_path: Path) -> None:
    names = {field.name for field in dataclasses.fields(MetroTrainingArguments)}
    given = {
        name: f"a {name}"
        for name in (
            *("run_name", "project", "trackio_space_id"),
            *("trackio_bucket_id", "trackio_static_space_id"),
        )
        if name in names
    }
    seen: dict[str, Any] = {}

    class Service(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            seen.update({name: getattr(args, name) for name in given})

    trainer_of(tmp_path, callbacks=[Service()], **given).train()
    assert seen == given


def test_the_hub_gets_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Mapping[str, Any]]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> Any:
            calls.append(("create", {"name": name, **options}))
            return SimpleNamespace(repo_id=name)

        def upload_folder(self, **options: Any) -> Any:
            calls.append(("upload", options))
            return SimpleNamespace(is_done=lambda: False, done=lambda: False, result=lambda: None)

    if hasattr(transformers.trainer, "hf_api"):
        monkeypatch.setattr(transformers.trainer, "hf_api", Hub)
    else:  # older releases
        monkeypatch.setattr(transformers.trainer, "create_repo", Hub().create_repo)
        monkeypatch.setattr(transformers.trainer, "upload_folder", Hub().upload_folder)
    monkeypatch.setattr(Trainer, "_finish_current_push", lambda trainer: None)

    def uploads(**options: Any) -> list[Mapping[str, Any]]:
        calls.clear()
        trainer = trainer_of(
            tmp_path,
            push_to_hub=True,
            hub_model_id="someone/model",
            hub_token="secret",
            hub_private_repo=True,
            hub_revision="draft",
            save_strategy="steps",
            save_steps=1,
            **options,
        )
        trainer.train()
        created = {"name": "someone/model", "token": "secret", "private": True}
        assert calls[0][0] == "create"
        assert created.items() <= calls[0][1].items()
        found = [options for kind, options in calls if kind == "upload"]
        for each in found:
            assert (each["repo_id"], each["token"]) == ("someone/model", "secret")
            assert each["revision"] == "draft"
        return found

    assert uploads(hub_strategy="end") == []
    assert len(uploads(hub_strategy="every_save")) == 1  # the first has not ended
    assert len(uploads(hub_strategy="every_save", hub_always_push=True)) == 2
    whole = uploads(hub_strategy="all_checkpoints", hub_always_push=True)
    places = [upload.get("path_in_repo") for upload in whole]
    assert places == [None, "checkpoint-1", None, "checkpoint-2"]


def test_the_states_of_callbacks_are_restored(tmp_path: Path) -> None:
    """Patience 3, and one evaluation without progress before the checkpoint."""

    def run(stop: int, **options: Any) -> MetroTrainer:
        trainer = trainer_of(
            tmp_path,
            max_steps=6,
            learning_rate=1e-30,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=2,
            load_best_model_at_end=True,
            callbacks=[EarlyStoppingCallback(3), Stop(stop)],
            **{key: value for key, value in options.items() if key != "resume"},
        )
        trainer.train(resume_from_checkpoint=options.get("resume"))
        return trainer

    run(2)
    restored = run(9, resume=True, restore_callback_states_from_checkpoint=True)
    assert restored.state.global_step == 4
    for folder in tmp_path.glob("checkpoint-[4-9]"):
        (folder / MARK).unlink()
    fresh = run(9, resume=True)
    assert fresh.state.global_step > 4


class Stop(TrainerCallback):
    """Stops after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        control.should_training_stop |= state.global_step >= self.step


def test_each_seed_has_its_part(tmp_path: Path) -> None:
    def run(**seeds: int) -> tuple[list[Any], list[Any]]:
        model = metro_model(main={"dropout_rate": 0.1})
        trainer = trainer_of(tmp_path, model, train_sampling_strategy="random", **seeds)
        trainer.train()
        return trainer.data_collator.seen, lines_of(trainer)

    plain, same, order, noise = (
        run(seed=1, data_seed=5),
        run(seed=1, data_seed=5),
        run(seed=1, data_seed=6),
        run(seed=2, data_seed=5),
    )
    assert plain == same
    assert plain[0] != order[0]
    assert plain[0] == noise[0]
    assert plain[1] != noise[1]
    assert run(seed=5)[0] == plain[0]  # without data_seed, the seed decides the order
    with pytest.raises(MetroFastError, match="data_seed is -1"):
        arguments(tmp_path, data_seed=-1)


def test_every_loader_has_the_options_of_workers(tmp_path: Path) -> None:
    options = {
        "dataloader_num_workers": 1,
        "dataloader_prefetch_factor": 3,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "spawn",
    }
    trainer = trainer_of(tmp_path, **options)
    trainer.args.dataloader_pin_memory = True  # transformers turns it off on a CPU
    stream = trainer_of(tmp_path, train_dataset=PlainStream(), **options)
    loaders = {
        "training": trainer.get_train_dataloader(),
        "stream": stream.get_train_dataloader().dataset._loader,
        "evaluation": trainer.get_eval_dataloader(),
        "test": trainer.get_test_dataloader(Rows()),
    }
    for name, loader in loaders.items():
        assert (loader.num_workers, loader.prefetch_factor) == (1, 3), name
        assert loader.multiprocessing_context.get_start_method() == "spawn", name
        assert loader.pin_memory == (name != "stream"), name
        training = name in ("training", "stream")
        assert loader.persistent_workers == training, name  # an evaluation's end with it


def test_rows_are_grouped_by_a_column_of_lengths(tmp_path: Path) -> None:
    lengths = [3, 30] * 20
    rows = [{"ids": [5] * n, "sample_id": i, "size": n} for i, n in enumerate(lengths)]
    data = Dataset.from_list(rows).with_format("numpy")
    options = {"train_sampling_strategy": "group_by_length", "max_steps": 10}
    trainer = trainer_of(
        tmp_path, metro_model(), train_dataset=data, length_column_name="size", **options
    )
    trainer.train()
    batches = [ids for _, ids in trainer.data_collator.seen]
    assert all(len({lengths[int(i)] for i in ids}) == 1 for ids in batches)
    assert sorted(int(i) for ids in batches for i in ids) == list(range(40))
    with pytest.raises(MetroFastError, match=r"neither `lengths`.* nor a column 'length'.*: add o"):
        trainer_of(tmp_path, train_dataset=data, **options).train()
    with pytest.raises(MetroFastError, match="'group_by_length', but train_dataset is a stream"):
        trainer_of(tmp_path, train_dataset=PlainStream(), **options)
    in_order = trainer_of(tmp_path, metro_model(), train_sampling_strategy="sequential")
    in_order.train()
    assert [ids for _, ids in in_order.data_collator.seen] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_model_alone_is_not_resumed_from(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(tmp_path, save_only_model=True, **saving)
    trainer.train()
    assert (tmp_path / "checkpoint-2" / "model.safetensors").exists()
    assert not (tmp_path / "checkpoint-2" / "optimizer.pt").exists()
    for wanted in (True, str(tmp_path / "checkpoint-1")):
        for options in ({"save_only_model": True}, {}):
            again = trainer_of(tmp_path, max_steps=4, **saving, **options)
            with pytest.raises(MetroFastError, match="saved with save_only_model=True, that"):
                again.train(resume_from_checkpoint=wanted)


def test_the_field_names_the_checkpoint(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}
    whole = trainer_of(tmp_path / "whole", max_steps=4, **saving)
    whole.train()
    first = str(tmp_path / "whole" / "checkpoint-1")
    resumed = trainer_of(tmp_path / "b", max_steps=4, resume_from_checkpoint=first)
    resumed.train()
    assert lines_of(resumed) == lines_of(whole)
    fresh = trainer_of(tmp_path / "c", max_steps=4, resume_from_checkpoint=first)
    fresh.train(resume_from_checkpoint=False)
    assert lines_of(fresh) == lines_of(whole)
    for trainer, start in ((fresh, 0), (resumed, 1)):  # transformers has the field since 5.19
        assert getattr(trainer, "_initial_global_step", start) == start


def test_evaluation_sets_by_name(tmp_path: Path) -> None:
    sets = {"a": Rows(LENGTHS[:5], seed=1), "b": PlainStream(3)}
    trainer = trainer_of(tmp_path, eval_dataset=sets, eval_strategy="steps", eval_steps=1)
    trainer.train()
    figures = trainer.evaluate()
    assert figures["eval_b_loss"] == trainer.evaluate(Rows(LENGTHS[:3]))["eval_loss"]
    assert len(lines_of(trainer, "eval_a_loss")) == 3
    with pytest.raises(MetroFastError, match="no evaluation data: pass eval_dataset"):
        trainer_of(tmp_path, eval_dataset=None).evaluate()


def test_an_optimizer_and_a_schedule_may_be_given(tmp_path: Path) -> None:
    model = span_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    trainer = MetroTrainer(
        model,
        arguments(tmp_path, max_steps=3),
        train_dataset=Rows(),
        data_collator=SpanCollator(),
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    rates = [rate for _, rate in lines_of(trainer, "learning_rate")]
    assert rates == pytest.approx([0.5, 0.25, 0.5 / 3])


def test_methods_of_the_stock_trainer_work(
    tmp_path: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(tmp_path, metro_model(), max_steps=3, weight_decay=0.2)
    stop = Stop(9)
    trainer.add_callback(stop)
    assert trainer.pop_callback(stop) is stop
    trainer.add_callback(stop)
    trainer.remove_callback(stop)
    assert stop not in trainer.callback_handler.callbacks
    trainer.create_optimizer_and_scheduler(num_training_steps=3)
    assert trainer.get_learning_rates() == [0.001] * len(trainer.optimizer.param_groups)
    weights = dict(trainer.model.named_parameters())
    decaying = {
        id(weight)
        for group in trainer.optimizer.param_groups
        if group["weight_decay"]
        for weight in group["params"]
    }
    names = trainer.get_decay_parameter_names(trainer.model)
    assert {id(weights[name]) for name in names} == decaying
    group = trainer.get_optimizer_group(weights[names[0]])
    assert group["weight_decay"] == 0.2
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    assert (kind, options["betas"]) == (torch.optim.AdamW, (0.9, 0.98))
    assert trainer.create_scheduler(3).get_last_lr()[0] == 0.001
    assert trainer.get_num_trainable_parameters() == sum(w.numel() for w in weights.values())
    assert trainer.get_total_train_batch_size(trainer.args) == 4
    assert trainer.is_local_process_zero()
    assert trainer.is_world_process_zero()
    assert [trainer.get_cp_size(), trainer.get_sp_size(), trainer.get_tp_size()] == [1, 1, 1]
    loader = trainer.get_train_dataloader()
    assert trainer.num_examples(loader) == 8
    values = trainer.set_initial_training_values(trainer.args, loader)
    assert values[:3] == (2, 2, 8)  # epochs, updates an epoch, rows
    result = trainer.train()
    assert trainer.state.total_flos > 0
    trainer.log_metrics("train", result.metrics)
    assert "train_loss" in capsys.readouterr().out
    shown = MetroTrainer.metrics_format({"train_runtime": 61.0})
    assert shown == {"train_runtime": "0:01:01.00"}
    trainer.save_metrics("train", result.metrics)
    assert "train_loss" in json.loads((tmp_path / "train_results.json").read_text())
    trainer.save_state()
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 3
    trainer.create_model_card(model_name="ours")
    assert "ours" in (tmp_path / "README.md").read_text()
    trainer.log({"own": 1.0})
    assert lines_of(trainer, "own") == [(3, 1.0)]
    with_tokenizer = trainer_of(tmp_path / "tokenizer", processing_class=tiny_tokenizer)
    with_tokenizer.save_model()
    assert (tmp_path / "tokenizer" / "tokenizer.json").exists()
    if hasattr(trainer, "end"):  # transformers has the method since 5.18
        trainer.end()

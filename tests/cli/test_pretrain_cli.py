"""`metro-fast pretrain`: recipe, file and flags become the settings of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metro_fast._training.run_folder import RunFolder
from metro_fast.cli import pretrain as command
from metro_fast.errors import MetroFastError
from metro_fast.metro import PretrainConfig
from metro_fast.metro.sections import LoadedModelSection


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PretrainConfig]:
    """The settings that a command line gives to `pretrain`."""
    found: list[PretrainConfig] = []

    def keep(config: PretrainConfig) -> Path:
        found.append(config)
        return config.output

    monkeypatch.setattr(command, "pretrain", keep)

    def run(*arguments: str) -> PretrainConfig:
        done = CliRunner().invoke(command.app, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return found[-1]

    return run


REQUIRED = ("--output", "out", "--data.corpus", "c")


def test_flags_are_dotted_and_converted(settings_of: Any) -> None:
    config = settings_of(
        *REQUIRED,
        *("--training.max_steps", "5", "--training.optim", "adafactor", "--training.torch_compile"),
        *("--training.gradient-checkpointing", "true", "--training.learning_rate=1e-3"),
        *("--training.report_to", "[tensorboard, wandb]", "--objective.name", "span", "--resume"),
        *("--objective.noise-density", "0.2", "--num_threads", "1", "--training.bf16", "false"),
    )
    expected = {
        "max_steps": 5,
        "optim": "adafactor",
        "torch_compile": True,
        "gradient_checkpointing": True,
        "learning_rate": 1e-3,
        "report_to": ["tensorboard", "wandb"],
        "bf16": False,
        "warmup_steps": 1000,
    }
    assert {name: config.training[name] for name in expected} == expected
    assert (config.recipe.name, config.objective.noise_density) == ("span", 0.2)
    assert (config.resume, config.num_threads) == (True, 1)


def test_flags_override_the_file_and_the_file_the_recipe(settings_of: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "data: {corpus: c, block-size: 128}\ntraining.max_steps: 7\nmodel: {d_model: 32}\n"
    )
    flags = ("--recipe", "tiny", "--config", str(file), "--output", "o", "--model.d_ff", "48")
    config = settings_of(*flags)
    assert (config.model.d_ff, config.model.d_model, config.model.d_kv) == (48, 32, 24)
    assert (config.data.block_size, config.training["max_steps"]) == (128, 7)
    assert config.training["embedding_multiplier"] == 5.0


def test_another_objective_leaves_out_what_it_does_not_read(
    settings_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(
        command.app, ["--recipe", "tiny", *REQUIRED, "--objective.name", "span"]
    )
    assert done.exit_code == 0
    left_out = "objective.rtd_weight, auxiliary.num_layers of recipe tiny, since objective.name is"
    assert left_out in done.output


def test_a_layer_makes_sizes_and_lengths_void(settings_of: Any, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("training: {num_train_epochs: 2}")
    file = ("--config", str(tmp_path / "run.yaml"))
    config = settings_of("--recipe", "tiny", *file, *REQUIRED, "--init", "t5-small")
    assert config.model == LoadedModelSection()
    lengths = config.training["max_steps"], config.training["num_train_epochs"]
    assert lengths == (-1, 2)
    with pytest.raises(MetroFastError, match=r"model\.d_ff is given, but init loads a model"):
        settings_of(*REQUIRED, "--init", "t5-small", "--model.d_ff", "8")


def test_a_resumed_run_keeps_its_settings(settings_of: Any, tmp_path: Path) -> None:
    first = settings_of("--recipe", "tiny", "--data.corpus", "c", "--output", str(tmp_path))
    RunFolder(tmp_path, resume=False).record(first.resolved(), free=())
    again = settings_of("--output", str(tmp_path), "--resume", "--training.max_steps", "3000")
    assert (first.training["max_steps"], again.training["max_steps"]) == (1000, 3000)
    assert (again.model, again.objective, again.auxiliary) == (
        first.model,
        first.objective,
        first.auxiliary,
    )
    assert again.data.corpus == Path("c").absolute()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "o"), "data.corpus is not given, and has no default"),
        (("--data.corpus", "c"), "output is not given"),
        ((*REQUIRED, "--training.max_steps", "many"), "training.max_steps is 'many', expected a w"),
        (
            (*REQUIRED, "--objective.rtd_weight", "1", "--objective.name", "ul2"),
            "is a setting of",
        ),
        ((*REQUIRED, "--training.num_train_epochs", "2", "--training.max_steps", "2"), "keep one"),
    ],
)
def test_wrong_flags(settings_of: Any, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises((MetroFastError, TypeError), match=message):
        settings_of(*arguments)


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--training.max_step", "--training.max_steps"),
        ("--training.lr", "--training.learning_rate"),
        ("--batch-size", "--training.per_device_train_batch_size"),
        ("--learning-rate", "--training.learning_rate"),
        ("--model.block_size", "--data.block_size"),
        ("--output-dir", "--output"),
    ],
)
def test_an_unknown_flag_names_the_nearest(settings_of: Any, flag: str, meant: str) -> None:
    done = CliRunner().invoke(command.app, [*REQUIRED, flag, "3"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert f"No such option: {flag} (Possible options: {meant})" in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d_model: 8", "d_model is a setting of a section: give model.d_model"),
        (
            "training: {max_step: 3}",
            "training.max_step is not a setting: did you mean training.max",
        ),
        ("training: {lr: 3}", "lr is not a setting: did you mean training.learning_rate"),
        ("trainign: {max_steps: 3}", "trainign is not a setting: did you mean training"),
        ("training: 3", "training is 3, expected a section of settings"),
        ("[1]", "holds a list"),
    ],
)
def test_wrong_files(settings_of: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises((MetroFastError, TypeError), match=message):
        settings_of(*REQUIRED, "--config", str(tmp_path / "run.yaml"))

"""The command line: help, --config, errors in one line, exit codes."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from metro_fast.cli import main
from metro_fast.cli.config import ConfigOption, read_config, save_resolved
from metro_fast.cli.from_dataclass import command_from_dataclass, option_help
from metro_fast.errors import MetroFastError

COMMANDS = ["prepare", "pretrain", "finetune", "curves", "prompts", "evaluate", "expert", "env"]


@dataclasses.dataclass
class Ended:
    """How a call of the command line ended."""

    status: object
    stdout: str
    stderr: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Calls the program's entry point in this process, in which torch is imported once."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["metro-fast", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        return Ended(stop.value.code, output.out, output.err)

    return call


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metro_fast.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclasses.dataclass
class Settings:
    """Count things.

    More words that are not the summary.

    Args:
        output: Folder to write to.
        steps: How many steps,
            at least 1.
        rate: Learning rate.
    """

    output: Path
    steps: int = 10
    rate: float = 0.5


def call(arguments: list[str]) -> tuple[list[Settings], object]:
    seen: list[Settings] = []
    app = typer.Typer()
    app.command()(command_from_dataclass(Settings, seen.append))
    return seen, CliRunner().invoke(app, arguments)


def test_help_lists_every_command_and_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['metro-fast', '--help']\n"
        "from metro_fast.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize(
    "command", [*COMMANDS, "expert compress", "expert decompress", "expert compose", "expert tune"]
)
def test_every_command_has_help(command: str, run: Callable[..., Ended]) -> None:
    ended = run(*command.split(), "--help")
    assert ended.status == 0, ended.stderr
    assert "Usage: metro-fast" in ended.stdout


def test_env_names_the_versions() -> None:
    done = run_process("env")
    assert done.returncode == 0
    assert "metro_fast" in done.stdout
    assert "numpy" in done.stdout


def test_unknown_command_is_one_clear_error() -> None:
    done = run_process("expandd")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_options_come_from_the_dataclass() -> None:
    seen, result = call(["--output", "here", "--steps", "3"])
    assert result.exit_code == 0, result.output
    assert seen == [Settings(output=Path("here"), steps=3, rate=0.5)]
    assert option_help(Settings)["steps"] == "How many steps, at least 1."


def test_config_gives_defaults_and_flags_override(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("output: there\nsteps: 7\nrate: 0.25\n")
    seen, result = call(["--config", str(config), "--steps", "9"])
    assert result.exit_code == 0, result.output
    assert seen == [Settings(output=Path("there"), steps=9, rate=0.25)]


def test_config_with_an_unknown_name_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("output: there\nstepps: 7\n")
    _, result = call(["--config", str(config)])
    assert isinstance(result.exception, MetroFastError)
    assert "stepps" in str(result.exception)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_config_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(text)
    with pytest.raises(MetroFastError, match=r"run\.yaml"):
        read_config(config)


def test_missing_config_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "nothing.yaml")


def test_resolved_config_is_saved_and_reads_back(tmp_path: Path) -> None:
    app = typer.Typer()

    @app.command()
    def command(ctx: typer.Context, out: Path, steps: int = 1, config: ConfigOption = None) -> None:
        save_resolved(ctx, out)

    result = CliRunner().invoke(app, [str(tmp_path), "--steps", "4"])
    assert result.exit_code == 0, result.output
    saved = tmp_path / "resolved_config.yaml"
    assert yaml.safe_load(saved.read_text()) == {"out": str(tmp_path), "steps": 4}
    assert read_config(saved)["steps"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["expert", "compress", "nowhere", "out"], "nowhere"),
        (["expert", "decompress", "nowhere", "out"], "nowhere"),
        (["expert", "inspect", "nowhere"], "nowhere"),
        (["expert", "compress", "nowhere", "out", "--alpha", "much"], "alpha"),
        (["pretrain", "--data.corpus", "nowhere", "--output", "out"], "nowhere"),
        (["pretrain", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "--model=m", "--tasks=nowhere", "--instructions=i", "--output=o"], "nowhere"),
    ],
)
def test_errors_are_one_line_and_nothing_is_left(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    run: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.status != 0
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_has_the_status_of_its_error() -> None:
    done = run_process("expert", "inspect", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("metro-fast: ")
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_prepare_has_its_options_and_a_config(tmp_path: Path) -> None:
    from metro_fast.cli import prepare

    (tmp_path / "a.txt").write_text("one two three\n" * 20)
    config = tmp_path / "run.yaml"
    config.write_text(f"inputs: [{tmp_path}/a.txt]\npiece-bytes: 100\ntrain-vocabulary: 60\n")
    arguments = [str(tmp_path / "a.txt"), "--config", str(config), "--tasks", "2"]
    arguments += ["--output", str(tmp_path / "corpus"), "--num-sentinels", "4"]
    result = CliRunner().invoke(prepare.app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert len(list((tmp_path / "corpus").glob("*.ds"))) == 3
    saved = read_config(tmp_path / "corpus" / "resolved_config.yaml")
    assert (saved["piece_bytes"], saved["tasks"], saved["num_workers"]) == (100, 2, 1)


def test_ctrl_c_is_reported_and_has_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metro_fast.cli import app, prepare

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", interrupt)
    monkeypatch.setattr(sys, "argv", ["metro-fast", "prepare", "x", "--output=y", "--tokenizer=z"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code == 130
    assert "metro-fast: interrupted" in capsys.readouterr().err

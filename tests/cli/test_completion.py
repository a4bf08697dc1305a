"""`--version`, shell completion, and choices in the help."""

import os
import subprocess
import sys

import pytest

import metro_fast


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metro_fast.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **variables},
    )


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"metro-fast {metro_fast.__version__}\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metro-fast pre", ["prepare", "pretrain"]),
        ("metro-fast expert comp", ["compress", "compose"]),
        ("metro-fast pretrain --objective.name ", ["metro", "span", "ul2", "metro_t0_span"]),
        ("metro-fast pretrain --recipe ", ["tiny", "base", "base++", "large++"]),
        ("metro-fast finetune --method ", ["full", "lora"]),
        (
            "metro-fast evaluate --preset ",
            ["metro_t0", "t0", "lm_eval", "mmlu_letters", "mmlu_argmax", "generate_match"],
        ),
    ],
)
def test_the_shell_completes_commands_and_choices(line: str, expected: list[str]) -> None:
    last = str(len(line.split(" ")) - 1)
    done = run(_METRO_FAST_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=last)
    assert done.stdout.split() == expected


def test_completion_can_be_installed() -> None:
    done = run("--show-completion", "bash")
    assert "_METRO_FAST_COMPLETE=complete_bash" in done.stdout
    assert "--install-completion" in run("--help").stdout


def test_required_options_come_first_and_choices_are_listed() -> None:
    text = run("pretrain", "--help").stdout
    flags = ("--output", "--data.corpus", "--objective.name", "--training.learning_rate")
    places = [text.index(flag) for flag in flags]
    assert places == sorted(places)
    assert "metro | span | ul2 | metro_t0_span" in " ".join(text.replace("│", " ").split())
    assert "--training.torch_compile_backend" not in text  # a field of which transformers says all
    assert "MetroTrainingArguments" in text


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    done = run("pretrain", "--data.corpus", "c", "--output", "o", "--objective.name", "ul3")
    assert done.returncode == 2
    assert "'metro', 'span', 'ul2'" in done.stderr

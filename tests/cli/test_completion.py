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
        ("metro-fast pretrain --objective ", ["metro", "span"]),
        ("metro-fast finetune --method ", ["full", "lora"]),
        ("metro-fast evaluate --preset ", ["metro_t0", "t0"]),
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
    assert text.index("--corpus") < text.index("--objective") < text.index("--learning-rate")
    assert "<metro|span>" in text
    assert "<none|token|token_rel_norm>" in text
    assert "<all_masked_loss|all>" in text


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    done = run("pretrain", "--corpus", "c", "--output", "o", "--objective", "ul2")
    assert done.returncode == 2
    assert "'metro', 'span'" in done.stderr

"""Errors and warnings on the command line: in its own words, and once.

The library speaks Python: `resume=True`, `density is 2`. Here each name of a parameter becomes the
flag of the command that runs, at the one place where messages are printed.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer

from metro_fast._shown import printable, shown
from metro_fast.errors import FormatError

_LONGEST = 2000
"""Most characters of a message; the longest of our own have 700."""

RUNNING: ContextVar[Any] = ContextVar("RUNNING", default=None)
"""The context of the command that runs, set when its flags are read."""

ALSO_CALLED = {
    "bounds": "bound",
    "commit_message": "message",
    "license": "terms",
    "max_steps": "steps",
    "num_threads": "threads",
    "vocab_size": "train_vocabulary",
}
"""Parameters of functions that a command calls by another name."""

_OF_OTHER_COMMANDS = ("dense", "density", "initial", "kind", "quantize", "rank", "space", "trim")
"""Parameters that messages name also where a command has no such option: an expert that was
"compressed with initial=" was so by `metro-fast expert compress --initial`."""

_CALLS = {
    "use Expert.load": "`metro-fast expert inspect` shows it",
    r"use its state_dict\(.*\)": "`metro-fast expert decompress` writes its tensors",
    r"merge\(\) can": "`metro-fast expert merge` can",
    r"pass its base model, or call merge_and_unload\(\) first": "give the base without them",
    "use load_expert$": "keep the prompt beside the model",
    r"keep the expert beside it with load_expert": "keep the expert beside it",
    r": add the expert in Python with add_to_base": "",
    ": pass a function that loads an expert into a model, with load_expert": "",
}
"""The words of a command in place of advice to call a function."""

_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[\w.+\-\[\]]*[\w\]])"
# What may come before and after a name so that it is neither part of a path nor of another word.
_BEFORE, _AFTER = r"(?<![\w.\-/'\"`])", r"(?![\w\-/('\"`]|\.\w)"


def translated(text: str, ctx: Any) -> str:
    """Say a message of the library in the words of a command.

    Args:
        text: The message.
        ctx: The command's context; None leaves the message as it is.

    Returns:
        The message, in which the parameters of the command are flags.
    """
    flags = _flags(ctx)
    if not flags:
        return text
    text = re.sub(r" \(sha256 [^)]*\)", "", text)  # the message names the files as well
    text = re.sub(r",? or None$", "", text)  # on the command line, None is a flag left out
    name = f"({'|'.join(re.escape(each) for each in sorted(flags, key=len, reverse=True))})"
    text = re.sub(
        f"{_BEFORE}{name}=({_VALUE})(?![\\w(])",
        lambda found: _with_value(flags, *found.groups()),
        text,
    )
    text = re.sub(f"{_BEFORE}{name}=(?=[ ,;:)]|$)", lambda found: flags[found[1]][0], text)
    text = re.sub(
        rf"{_BEFORE}({'|'.join(_OF_OTHER_COMMANDS)})=(?:({_VALUE})(?![\w(])|(?=[ ,;:)]|$))",
        lambda found: f"--{found[1]}" + (f" {_bare(found[2])}" if found[2] else ""),
        text,
    )
    for call, words in _CALLS.items():
        text = re.sub(call, words, text)
    if "space" not in flags:  # another command's options
        text = text.replace(
            "(merge with --space delta, and TIES with --rank)", "(`metro-fast expert merge`)"
        )
    underscored = {each for each in flags if "_" in each or "." in each}

    def alone(found: re.Match[str]) -> str:
        return f"{flags[found[1]][0]}" if found[1] in underscored else found[0]

    text = re.sub(f"{_BEFORE}{name}{_AFTER}", alone, text)
    # A name of one English word is meant where a value follows it, or where it is to be given.
    values = {str(value) for value in ctx.params.values()}
    verb = rf"(?:(?<=^)|(?<=[;:] ))(?<!/){name}(?= (?:is|are|has) )"
    advice = rf"(?<=\b)((?:give|lower|pass|raise|set|without) ){name}(?=[,;.:)]| as well| to |$)"
    text = re.sub(verb, lambda f: f[0] if f[1] in values else flags[f[1]][0], text)
    return re.sub(advice, lambda found: found[1] + flags[found[2]][0], text)


def _flags(ctx: Any) -> dict[str, tuple[str, str]]:
    """The flags that switch a parameter on and off, by the names that the library gives it."""
    found: dict[str, tuple[str, str]] = {}
    if ctx is None:
        return found
    tails: dict[str, list[Any]] = {}
    for option in ctx.command.params:
        if option.param_type_name != "option" or option.name == "help":
            continue
        # The long flag; of a dotted one the part after the dot is a name as well.
        flag = max(option.opts, key=len)
        off = option.secondary_opts[0] if option.secondary_opts else ""
        dotted = option.name.replace("__", ".")
        found[dotted] = (flag, off)
        if dotted != option.name:
            tails.setdefault(dotted.rpartition(".")[2], []).append(option)
    for tail, options in tails.items():
        given = [each for each in options if ctx.params.get(each.name) is not None]
        if tail not in found and (len(options) == 1 or len(given) == 1):
            option = (given or options)[0]
            found[tail] = (max(option.opts, key=len), "")
    for name, own in ALSO_CALLED.items():
        if own in found and name not in found:
            found[name] = found[own]
    return found


def _with_value(flags: dict[str, tuple[str, str]], name: str, value: str) -> str:
    on, off = flags[name]
    if value == "True":
        return on
    if value == "False":
        return off or f"{on} false" if "." in on else off or f"no {on}"
    return f"no {on}" if value == "None" else f"{on} {_bare(value)}"


def _bare(value: str) -> str:
    return value.strip("'\"")


def error_text(error: BaseException) -> str:
    """The words of a command about an error that the user can correct."""
    ctx = RUNNING.get()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{shown(os.fsdecode(error.filename), 300)}: {error.strerror}")
    text = _cut(str(error))
    # A file's own keys are not flags.
    return printable(text if isinstance(error, FormatError) else translated(text, ctx))


def _cut(text: str) -> str:
    """A message whose middle is left out if a value in it is megabytes long."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def is_first_rank() -> bool:
    """Whether this process speaks for all: torchrun and accelerate number them in RANK."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def spoken_once() -> Iterator[None]:
    """Let the first rank alone print results: `wrote run` would come once for each rank."""
    if is_first_rank():
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def speak_plainly() -> None:
    """Leave out the warnings that are for developers, and print the others as lines.

    `-W` and PYTHONWARNINGS are obeyed where they are given.
    """
    if sys.warnoptions:
        return
    warnings.simplefilter("ignore", FutureWarning)
    # peft says so each time that an expert is laid onto a model which has had one before.
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
    warnings.showwarning = _show_line


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings as lines, without the place in the code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_line
        yield


def say_warning(text: str) -> None:
    """Print a warning as one line, in the words of the command that runs."""
    typer.echo(printable(f"warning: {translated(_cut(text), RUNNING.get())}"), err=True)


def _show_line(message: Warning | str, *_: Any, **__: Any) -> None:
    say_warning(str(message))

"""prepare in several processes: killed, interrupted, resumed; nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dill
import psutil
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.data import prepare, train_tokenizer
from metro_fast.data.pieces import MARKS
from metro_fast.data.processes import run_in_processes

SUPPORT = Path(__file__).parents[1] / "support"

from prepare_cases import TEXTS, contents, environment

LINES, PIECE = 30_000, 60_000


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, num_sentinels=10)
    tokenizer.save_pretrained(folder := tmp_path_factory.mktemp("tokenizer"))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """About 2 MB in one file: 30 pieces, some seconds of work."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("".join(f"{i} {TEXTS[i % 60]}\n" for i in range(LINES)))
    return path


def start(text, output, tokenizer_folder):
    command = [sys.executable, str(SUPPORT / "prepare_cases.py"), str(text), str(output)]
    command += [str(tokenizer_folder), "2", str(PIECE)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(), text=True, start_new_session=True, **pipes)


def wait_for_pieces(process, work, count):
    end = time.monotonic() + 60
    while len(list((work / MARKS).glob("*.json"))) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_signal_and_the_next_call_continues(
    number, text, tokenizer_folder, tmp_path
):
    """Slow: a process that imports transformers, and its two workers."""
    work = tmp_path / ".corpus.preparing"
    process = start(text, tmp_path / "corpus", tokenizer_folder)
    wait_for_pieces(process, work, 3)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does on Ctrl-C
    else:
        process.send_signal(number)
    process.wait(timeout=30)
    # With the lowest versions an unhandled KeyboardInterrupt ends as status 1, as others do.
    assert process.returncode in ((-number, 1) if number == signal.SIGINT else (-number,))
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert process.communicate()[1].count("Traceback") == (number == signal.SIGINT)
    assert not (tmp_path / "corpus").exists()
    done = [f"{path.stem}_unshuffled.ds" for path in (work / MARKS).glob("*.json")]
    assert 3 <= len(done) < text.stat().st_size // PIECE
    if number != signal.SIGKILL:
        return
    times = {name: (work / name).stat().st_mtime_ns for name in done}
    options = {"piece_bytes": PIECE, "progress": False}
    output = prepare(text, tmp_path / "corpus", tokenizer_folder, **options)
    assert {name: (output / name).stat().st_mtime_ns for name in times} == times
    whole = prepare(text, tmp_path / "whole", tokenizer_folder, **options)
    assert contents(output) == contents(whole)


def _exit(index):
    os.kill(os.getpid(), signal.SIGKILL)


def _damage(index):
    if index == 1:
        raise FormatError("a.txt is damaged")
    time.sleep(60)


@pytest.mark.slow
def test_a_killed_worker_and_an_error_end_the_others():
    """Slow: spawned processes."""
    with pytest.raises(MetroFastError, match="a worker process was killed"):
        run_in_processes(dill.dumps(_exit), 2, 2)
    before = time.monotonic()
    with pytest.raises(FormatError, match=r"a\.txt is damaged"):
        run_in_processes(dill.dumps(_damage), 3, 2)
    assert time.monotonic() - before < 30, "the other worker was not waited for"
    assert not [p for p in psutil.Process().children(recursive=True) if "spawn_main" in _line(p)]


def _line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.slow
def test_damage_that_a_worker_finds_is_reported_as_in_this_process(tokenizer_folder, tmp_path):
    """Slow: spawned processes."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' * 50 + "{\n")
    run = partial(prepare, tmp_path / "a.jsonl", tmp_path / "o", tokenizer_folder, piece_bytes=99)
    for workers in (1, 2):
        with pytest.raises(FormatError, match=r"a\.jsonl, line 51: it is not JSON"):
            run(num_workers=workers, progress=False)

"""Runs whose folder is taken, damaged or full, and what a resumed run says of its loss."""

import os
import resource
import shutil
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from metro_fast._folder_lock import owned_folder
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import pretrain
from pretrain_cases import changed, history, small_run


@pytest.fixture
def settings(tmp_path: Path, tiny_tokenizer: Any) -> dict[str, Any]:
    return small_run(tmp_path, tiny_tokenizer)


def last_loss(folder: Path) -> float:
    return next(line["train_loss"] for line in history(folder) if "train_loss" in line)


def test_train_loss_is_that_of_the_whole_run(settings: dict[str, Any], tmp_path: Path) -> None:
    every = {"training.logging_steps": 1, "training.save_steps": 2}
    whole = pretrain(changed(settings, {**every, "output": tmp_path / "whole"}))
    steps = [line["loss"] for line in history(whole) if "loss" in line]
    assert last_loss(whole) == pytest.approx(sum(steps) / 6, rel=1e-6)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    first, *later = sorted((part / "checkpoints").glob("checkpoint-*"))
    assert first.name in ("checkpoint-2", "checkpoint-4")
    for checkpoint in later:
        shutil.rmtree(checkpoint)
    resumed = changed(settings, {**every, "output": part, "resume": True})
    pretrain(resumed)
    assert last_loss(part) == last_loss(whole)
    again = (part / "metrics.jsonl").read_bytes()
    pretrain(resumed)  # a finished run says the same, and nothing twice
    assert (part / "metrics.jsonl").read_bytes() == again
    lines = again.splitlines(keepends=True)
    kept = [line for line in lines if b"train_loss" not in line]
    (part / "metrics.jsonl").write_bytes(b"".join(kept) + b'{"step": 6, "tr')
    pretrain(resumed)  # it died before its last line, or in the middle of it
    assert last_loss(part) == last_loss(whole)


@pytest.mark.slow  # three trainings
def test_a_damaged_checkpoint_is_left_for_the_one_before(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = pretrain(changed(settings, {"output": tmp_path / "whole"}))
    folder = pretrain(changed(settings, {"output": tmp_path / "cut"}))
    checkpoints = folder / "checkpoints"
    newest = checkpoints / "checkpoint-6"
    os.truncate(newest / "optimizer.pt", 100)
    pretrain(changed(settings, {"output": folder, "resume": True}))
    assert "optimizer.pt is missing or does not have its" in caplog.text
    assert (checkpoints / "damaged-checkpoint-6" / "model.safetensors").exists()
    for path in ("model.safetensors", "main/model.safetensors"):
        assert (folder / path).read_bytes() == (whole / path).read_bytes()
    assert last_loss(folder) == last_loss(whole)
    for each in checkpoints.glob("checkpoint-*"):
        (each / "metric_window.json").write_text("{")
    with pytest.raises(FormatError, match=r"no checkpoint in .* is whole"):
        pretrain(changed(settings, {"output": folder, "resume": True}))


def test_a_second_run_is_refused_before_it_reads(settings: dict[str, Any], tmp_path: Path) -> None:
    output, found = tmp_path / "out", []

    def second() -> None:
        for resume in (False, True):
            config = changed(settings, {"data.corpus": tmp_path / "no corpus", "resume": resume})
            with pytest.raises(MetroFastError, match=f"another run writes to {output}") as error:
                pretrain(config)
            found.append(error)

    with owned_folder(output):
        unfinished = output / "checkpoints" / "checkpoint-2"
        unfinished.mkdir(parents=True)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert unfinished.is_dir()
    assert len(found) == 2


@pytest.mark.slow  # three trainings
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_every_file_follows_the_umask(settings: dict[str, Any], mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = pretrain(changed(settings, {"training.max_steps": 2}))
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert len(modes) > 10
    assert set(modes.values()) == {0o666 & ~mask}, modes


def test_a_file_that_cannot_be_written_is_named(settings: dict[str, Any]) -> None:
    """As a full disk does it, a limit on the size of files stops torch in the middle of one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*checkpoint-2"):
            pretrain(changed(settings, {"training.max_steps": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    pretrain(changed(settings, {"training.max_steps": 2, "resume": True}))

"""The folder of plain experts on a host that strangers share, and the requests that reach it."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="vLLM and the kernel's file locks need Unix")

from metro_fast import MetroFastError
from metro_fast.experts.plain import vllm_resolver
from metro_fast.experts.plain.shelf import Shelf
from vllm_cases import expert, vllm

assert vllm  # the fixture


def one_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights").write_text(folder.name)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name != ".locks")


def _link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


def _of_another_user(folder: Path) -> None:
    folder.mkdir()
    try:
        os.chown(folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a folder away")


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (_link, "it is a link, which is not followed"),
    "a file": (Path.touch, "it is not a folder"),
    "another user's": (_of_another_user, "its owner is user 12345"),
    "open to the group": (lambda folder: (folder.mkdir(), folder.chmod(0o770)), "its mode 770"),
    "open to all": (lambda folder: (folder.mkdir(), folder.chmod(0o1777)), "its mode 1777"),
}


@pytest.mark.parametrize(("plant", "reason"), PLANTED.values(), ids=PLANTED)
def test_a_planted_folder_is_refused(
    plant: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    plant(tmp_path / "plain")
    with pytest.raises(MetroFastError, match=f"{reason}.*: set PLAIN to a folder of your own"):
        Shelf(tmp_path / "plain", "PLAIN").take("math", "1", one_file)
    assert not list((tmp_path / "elsewhere").glob("*"))


def test_the_folder_is_closed_to_other_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Shelf(tmp_path / "plain", "PLAIN").take("math", "1", one_file)
    finally:
        os.umask(before)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o700


def test_the_default_folder_is_of_one_user() -> None:
    assert vllm_resolver.default_folder() == Path(f"/dev/shm/metro_fast_experts-{os.geteuid()}")


def test_an_old_version_goes_unless_a_process_holds_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    here = Shelf(plain, "PLAIN")
    here.take("math", "1", one_file)
    here.take("math-2", "1", one_file)
    code = f"""
from pathlib import Path
from metro_fast.experts.plain.shelf import Shelf
Shelf(Path({str(plain)!r}), "PLAIN").take("math", "1", None)
print("held", flush=True)
input()
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        here.take("math", "2", one_file)
        assert names(plain) == ["math-1", "math-2", "math-2-1"]
        other.kill()  # the kernel releases what it held
    (plain / ".math-3.0a1b2c3d.tmp").mkdir()  # what a killed process left
    here.take("math", "3", one_file)
    assert names(plain) == ["math-2-1", "math-3"]


def test_sixteen_threads_write_one_folder_once(tmp_path: Path) -> None:
    written = []

    def slow(folder: Path) -> None:
        written.append(folder)
        time.sleep(0.05)
        one_file(folder)

    shelf = Shelf(tmp_path / "plain", "PLAIN")
    threads = [threading.Thread(target=shelf.take, args=("math", "1", slow)) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert written == [tmp_path / "plain/math-1"]


@pytest.fixture
def resolver(vllm, tmp_path: Path):
    (tmp_path / "experts").mkdir()
    return vllm_resolver.make_resolver(tmp_path / "experts", tmp_path / "plain")


NOT_OURS = {
    "empty": "", "parent": "..", "above": "../math", "absolute": "/etc/passwd", "hidden": ".locks",
    "backslash": "..\\math", "nul": "math\0", "newline": "a\nb", "escape": "\x1b[2J",
    "bidi": "\u202ehtam", "surrogate": "\udc80", "long": "x" * 161, "huge": "x" * 10_000_000,
    "long in bytes": "\u00fc" * 81, "deep": "a/" * 5000, "absent": "none",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_OURS.values(), ids=NOT_OURS)
def test_a_name_of_no_expert_is_not_resolved(resolver, name: str, caplog, tmp_path: Path) -> None:
    caplog.set_level("INFO")
    assert asyncio.run(resolver.resolve_lora("org/base", name)) is None
    assert not (tmp_path / "plain").exists()
    assert len(caplog.text) < 600
    assert caplog.text.strip("\n").isprintable()


def test_a_full_disk_leaves_nothing_and_the_next_request_tries_again(
    resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert(0).save(tmp_path / "experts/math")
    whole = vllm_resolver.write_plain

    def full(one, planned, folder, dtype=None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(vllm_resolver, "write_plain", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            asyncio.run(resolver.resolve_lora("org/base", "math"))
    assert names(tmp_path / "plain") == []
    monkeypatch.setattr(vllm_resolver, "write_plain", whole)
    assert Path(asyncio.run(resolver.resolve_lora("org/base", "math")).lora_path).is_dir()


def test_the_event_loop_goes_on_while_an_expert_is_decoded(
    resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert(0).save(tmp_path / "experts/math")
    decoded, whole = [], vllm_resolver.write_plain

    def slow(one, planned, folder, dtype=None):
        decoded.append(folder)
        time.sleep(0.5)
        return whole(one, planned, folder, dtype)

    monkeypatch.setattr(vllm_resolver, "write_plain", slow)

    async def requests() -> tuple[list, float]:
        tasks = [asyncio.create_task(resolver.resolve_lora("org/base", "math")) for _ in range(4)]
        longest, before = 0.0, time.perf_counter()
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
        return [task.result() for task in tasks], longest

    found, longest = asyncio.run(requests())
    assert len(decoded) == 1
    assert all(each == found[0] for each in found)
    assert longest < 0.4  # the loop stood for the whole 0.5 s when it decoded by itself


def test_no_two_of_200_000_versions_share_an_id() -> None:
    versions = [f"expert-{i}" for i in range(200_000)]
    ids = [vllm_resolver.id_of(each) for each in versions]
    assert len(set(ids)) == len(ids)
    assert ids == [vllm_resolver.id_of(each) for each in versions]
    assert min(ids) >= 2**30
    assert max(ids) < 2**31

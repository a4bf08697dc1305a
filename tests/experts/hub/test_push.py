"""push_to_hub and its command: one commit with the expert's files, or nothing at all."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from metro_fast import MetroFastError, MissingExtraError
from metro_fast.cli import expert_push
from metro_fast.experts import EXPERT_FILE, Expert, compress

huggingface_hub = pytest.importorskip("huggingface_hub")

from fake_hub import FakeHub, httpx, serving

CONFIG = json.dumps({"peft_type": "IA3", "base_model_name_or_path": "org/base"}).encode()


def expert(seed: int = 0) -> Expert:
    values = np.random.default_rng(seed).normal(1, 0.1, 96).astype(np.float32)
    result = compress({"base_model.model.q.ia3_l": values}, density=0.25)
    result.config = CONFIG
    return result


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(monkeypatch, tmp_path / "cache") as fake:
        yield fake


def test_what_is_pushed_is_what_comes_back(hub: FakeHub):
    one = expert()
    commit = one.push_to_hub("owner/name", token="hf_x", commit_message="First")
    assert commit.commit_url == "https://huggingface.co/owner/name/commit/ccc"
    there = hub.repos["owner/name"]["main"]
    assert sorted(there) == [".gitattributes", "README.md", "adapter_config.json", EXPERT_FILE]
    assert there[EXPERT_FILE] == one.file.tobytes()
    assert there["adapter_config.json"] == CONFIG
    assert there["README.md"].decode() == one.card("owner/name")
    assert [header["summary"] for header in hub.commits] == ["First"]
    assert hub.tokens == {"Bearer hf_x"}
    assert "owner/name" not in hub.private
    found = Expert.from_pretrained("owner/name")
    assert found.file.tobytes() == one.file.tobytes()
    assert found.config == CONFIG


def test_branches_folders_and_pull_requests(hub: FakeHub):
    expert(0).push_to_hub("hf://owner/name/math")
    expert(1).push_to_hub("owner/name", revision="v1", card=False)
    expert(2).push_to_hub("hf://owner/name@v1/code", card=False)
    assert sorted(hub.repos["owner/name"]["main"]) == [
        ".gitattributes", "math/README.md", "math/adapter_config.json", f"math/{EXPERT_FILE}",
    ]  # fmt: skip
    assert '"hf://owner/name/math"' in hub.repos["owner/name"]["main"]["math/README.md"].decode()
    for name, seed in (("@v1", 1), ("@v1/code", 2), ("@v1/math", 0), ("/math", 0)):
        assert Expert.load(f"hf://owner/name{name}").file.tobytes() == expert(seed).file.tobytes()
    commit = expert(3).push_to_hub("owner/name", create_pr=True, card=False)
    assert commit.pr_url == "https://huggingface.co/owner/name/discussions/1"
    found = Expert.load("hf://owner/name@refs/pr/1")
    assert found.file.tobytes() == expert(3).file.tobytes()
    assert EXPERT_FILE not in hub.repos["owner/name"]["main"]
    expert(4).push_to_hub("owner/name", revision="refs/pr/1", card=False)
    found = Expert.from_pretrained("owner/name", revision="refs/pr/1")
    assert found.file.tobytes() == expert(4).file.tobytes()


def test_a_card_that_is_there_is_kept(hub: FakeHub):
    hub.put("owner/name", {"README.md": b"theirs"})
    for card in (True, "---\nlicense: mit\n---\nmine"):
        with pytest.warns(UserWarning, match="README.md already, which was kept.*replace_card"):
            expert().push_to_hub("owner/name", card=card)
        assert hub.repos["owner/name"]["main"]["README.md"] == b"theirs"
    assert EXPERT_FILE in hub.repos["owner/name"]["main"]
    expert().push_to_hub("owner/name", card="---\nlicense: mit\n---\nmine", replace_card=True)
    assert hub.repos["owner/name"]["main"]["README.md"].endswith(b"mine")
    expert().push_to_hub("owner/name", card=False)
    assert hub.repos["owner/name"]["main"]["README.md"].endswith(b"mine")


def test_private_repositories(hub: FakeHub):
    expert().push_to_hub("owner/secret", private=True, card=False)
    assert hub.private == {"owner/secret"}
    expert(1).push_to_hub("owner/secret", private=True, card=False)
    hub.put("owner/public", {})
    with pytest.raises(MetroFastError, match=r"there already and public.*nothing was uploaded"):
        expert().push_to_hub("owner/public", private=True)
    assert hub.repos["owner/public"] == {"main": {}}


def test_a_configuration_of_another_expert(hub: FakeHub):
    bare = compress({"w": np.arange(8, dtype=np.float32)}, kind="other")
    bare.push_to_hub("owner/bare")
    assert sorted(hub.repos["owner/bare"]["main"]) == [".gitattributes", "README.md", EXPERT_FILE]
    hub.put("owner/name", {"adapter_config.json": CONFIG})
    with pytest.raises(MetroFastError, match=r"adapter_config.json, which would be read with this"):
        bare.push_to_hub("owner/name")
    assert hub.repos["owner/name"]["main"] == {"adapter_config.json": CONFIG}
    expert().push_to_hub("owner/name")  # all of it is replaced in one commit


def test_the_name_in_the_card(hub: FakeHub):
    hub.put("owner/name", {})
    expert().push_to_hub("owner/name", revision="v1")
    assert '"hf://owner/name@v1"' in hub.repos["owner/name"]["v1"]["README.md"].decode()
    hub.put("owner/name", {}, "refs/pr/2")
    expert().push_to_hub("owner/name", revision="refs/pr/2")
    assert '"hf://owner/name"' in hub.repos["owner/name"]["refs/pr/2"]["README.md"].decode()


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_a_plain_adapter_is_not_shadowed(hub: FakeHub, file: str):
    hub.put("owner/name", {file: b"plain", "adapter_config.json": b"its own"})
    for revision in (None, "new"):
        with pytest.raises(MetroFastError, match=rf"{file}.*hf://owner/name/FOLDER.*nothing was"):
            expert().push_to_hub("owner/name", revision=revision)
    assert list(hub.repos["owner/name"]) == ["main"]
    assert hub.repos["owner/name"]["main"]["adapter_config.json"] == b"its own"
    expert().push_to_hub("hf://owner/name/packed")
    assert f"packed/{EXPERT_FILE}" in hub.repos["owner/name"]["main"]


def test_local_errors_are_found_without_asking_the_hub(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    for name in ("name", "a/b/c", "../name", "hf://datasets/o/n", "hf://o/n/../x", "/tmp/x"):
        with pytest.raises(MetroFastError):
            expert().push_to_hub(name)
    with pytest.raises(MetroFastError, match="give one"):
        expert().push_to_hub("hf://owner/name@a", revision="b")
    with pytest.raises(MetroFastError, match="is not a revision"):
        expert().push_to_hub("owner/name", revision="../x")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[peft\]'"):
        expert().push_to_hub("owner/name")
    assert hub.asked == []


def test_refusals_of_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    hub.fail["/api/repos/create"] = (401, {"X-Error-Message": "Invalid username or password."})
    with pytest.raises(PermissionError, match=r"refused owner/name.*401.*hf auth login.*HF_TOKEN"):
        expert().push_to_hub("owner/name")
    assert hub.repos == {}
    hub.fail = {"/api/repos/create": httpx.ConnectError("refused")}
    with pytest.raises(ConnectionError, match="owner/name at revision main cannot be reached"):
        expert().push_to_hub("owner/name")
    hub.fail = {}
    hub.put("owner/name", {})
    with pytest.raises(MetroFastError, match=r"Invalid metadata in README.md"):
        expert().push_to_hub("owner/name", card="no metadata")
    with pytest.raises(FileNotFoundError, match="owner/name has no revision 'refs/pr/7'"):
        expert().push_to_hub("owner/name", revision="refs/pr/7")
    hub.fail = {"/commit/": (500, {})}
    with pytest.raises(OSError, match="the Hub answered 500 to owner/name at revision main"):
        expert().push_to_hub("owner/name")
    assert hub.repos["owner/name"] == {"main": {}}


def test_the_error_names_offline_mode(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set in the environment"):
        expert().push_to_hub("owner/name")


def push(*arguments: object) -> str:
    result = CliRunner().invoke(expert_push.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_the_command(hub: FakeHub, tmp_path: Path):
    expert().save(tmp_path / "packed")
    output = push(tmp_path / "packed", "owner/name", "--private", "--license", "mit")
    assert f"pushed {expert().nbytes:,} bytes: https://huggingface.co/owner/name/commit/" in output
    assert hub.private == {"owner/name"}
    there = hub.repos["owner/name"]["main"]
    packed = Expert.load(tmp_path / "packed")
    assert there["README.md"].decode() == packed.card("owner/name", license="mit")
    push(tmp_path / "packed", "owner/other", "--revision", "v1", "--license", "mit")
    there = hub.repos["owner/other"]["v1"]
    assert there["README.md"].decode() == packed.card("hf://owner/other@v1", license="mit")
    output = push(tmp_path / "packed", "owner/name", "--message", "again", "--revision", "v1")
    assert "warning: hf://owner/name@v1 has a README.md already" in output
    assert hub.commits[-1]["summary"] == "again"
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\nmine")
    arguments = ["--card-file", tmp_path / "card.md", "--replace-card"]
    push("hf://owner/name@v1", "owner/copy", *arguments)
    assert hub.repos["owner/copy"]["main"]["README.md"].endswith(b"mine")
    assert hub.repos["owner/copy"]["main"][EXPERT_FILE] == expert().file.tobytes()
    output = push(tmp_path / "packed", "owner/name", "--create-pr", "--no-card")
    assert "https://huggingface.co/owner/name/discussions/1" in output


def test_options_that_do_not_go_together(hub: FakeHub, tmp_path: Path):
    expert().save(tmp_path / "packed")
    (tmp_path / "card.md").write_bytes(b"\xff")
    for options, message in (
        (["--card-file", tmp_path / "card.md", "--no-card"], "--no-card does not go with"),
        (["--card-file", tmp_path / "card.md", "--license", "mit"], "--license does not go with"),
        (["--license", "mit", "--no-card"], "--no-card writes none"),
        (["--card-file", tmp_path / "card.md"], "is not text in UTF-8"),
    ):
        command = [str(x) for x in (tmp_path / "packed", "owner/name", *options)]
        result = CliRunner().invoke(expert_push.app, command)
        assert isinstance(result.exception, MetroFastError)
        assert message in str(result.exception)
    assert hub.asked == []

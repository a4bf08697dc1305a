"""Experts of the Hugging Face Hub: names, fetched files, and clear errors.

huggingface_hub itself runs, against a Hub in memory (fake_hub.py) or a cache that is made by hand.
"""

import errno
import hashlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from metro_fast import FormatError, MetroFastError, MissingExtraError
from metro_fast.cli import (
    expert_card,
    expert_decompress,
    expert_export,
    expert_inspect,
    expert_merge,
    expert_similarity,
)
from metro_fast.experts import EXPERT_FILE, Expert, compress, load_expert, merge, similarity
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.hub.name import expert_name
from metro_fast.experts.search.summands import read_summand

huggingface_hub = pytest.importorskip("huggingface_hub")

from fake_hub import FakeHub, httpx, serving

CONFIG = json.dumps({"peft_type": "IA3", "base_model_name_or_path": "org/base"}).encode()
PICKLE = "adapter_model.bin"


def expert(seed: int = 0) -> Expert:
    values = np.random.default_rng(seed).normal(1, 0.1, 96).astype(np.float32)
    result = compress({"base_model.model.q.ia3_l": values}, density=0.25)
    result.config = CONFIG
    return result


def files(seed: int = 0, folder: str = "") -> dict[str, bytes]:
    return {
        f"{folder}{EXPERT_FILE}": expert(seed).file.tobytes(),
        f"{folder}adapter_config.json": CONFIG,
        f"{folder}{PICKLE}": b"a pickle",
        f"{folder}adapter_model.safetensors": b"a plain adapter",
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(monkeypatch, tmp_path / "cache") as fake:
        yield fake


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cached(cache: Path, repo: str, content: dict[str, bytes], *, ref: str = "main") -> str:
    """Write a repository into the cache as huggingface_hub's page on its cache describes."""
    commit = hashlib.sha1(repo.encode()).hexdigest()
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    for name, data in content.items():
        blob = root / "blobs" / hashlib.sha1(data).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(data)
        link = root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return commit


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://o", "hf:///n", "hf://o/", "hf://o/n@", "hf://../n", "hf://o/..", "hf://o--p/n",
        "hf://o/n.git", "hf://o/n/../../x", "hf://o/n/..", "hf://o/n/./a", "hf://o/n//a",
        "hf://o/n/a\\b", "hf://o/n/C:/x", "hf://o/n/a\nb", "hf://o/n@../../x", "hf://o/n@..%2F..%2Fx",
        "hf://o/n@%2Fetc%2Fx", "hf://o/n@a%00b", "hf://o/n@a%2F..%2F..%2Fx", "hf://o/n@-x",
        "hf://o/n@a b", "hf://o/n@refs/pr/1/..",
        "hf://datasets/o/n", "hf://spaces/o/n", "hf://o/" + "n" * 97,
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(text: str, hub: FakeHub):
    for call in (Expert.load, Expert.from_pretrained, read_summand):
        with pytest.raises(MetroFastError, match=r"is not |is a name of"):
            call(text)
    assert hub.asked == []


def test_plain_adapters_are_not_fetched(hub: FakeHub):
    hub.put("owner/name", files())
    for source in ("hf://owner/name", Path("hf://owner/name")):
        with pytest.raises(MetroFastError, match="hf download owner/name"):
            compress(source)
    assert hub.asked == []


def test_local_paths_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = expert()
    one.save(tmp_path / "owner/name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for path in ("owner/name", Path("owner/name"), tmp_path / "owner/name" / EXPERT_FILE):
        assert Expert.from_pretrained(path).file.tobytes() == one.file.tobytes()
        assert Expert.load(path).config == CONFIG
    with pytest.raises(MetroFastError, match="hf://owner/name for the repository"):
        Expert.from_pretrained("owner/name", revision="v1")
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[peft\]'"):
        Expert.from_pretrained("owner/other")
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[peft\]'"):
        Expert.load("hf://owner/name")


def test_a_missing_path_says_how_a_repository_is_named(tmp_path: Path, hub: FakeHub):
    with pytest.raises(
        FileNotFoundError, match=r"there is no owner/name: .* named hf://owner/name$"
    ):
        Expert.load("owner/name")
    with pytest.raises(
        FileNotFoundError,
        match=r"there is no .*nowhere: expected the folder or the file of an expert$",
    ):
        Expert.load(tmp_path / "nowhere")
    for path in ("nowhere", "./owner/name", "/owner/name", "a/b/c", "~/a"):
        with pytest.raises(FileNotFoundError, match="cannot be a repository of the Hub either"):
            Expert.from_pretrained(path)
    assert hub.asked == []


def test_only_two_files_of_one_commit_are_fetched(hub: FakeHub, tmp_path: Path):
    hub.put("owner/name", files())
    found = Expert.from_pretrained("owner/name")
    assert found.file.tobytes() == expert().file.tobytes()
    assert found.config == CONFIG
    assert hub.files_asked_for() == {EXPERT_FILE, "adapter_config.json"}
    commit = hub.commit_of("owner/name", "main")
    assert [path for method, path in hub.asked if method == "HEAD"] == [
        f"/owner/name/resolve/main/{EXPERT_FILE}",
        f"/owner/name/resolve/{commit}/adapter_config.json",
    ]
    fetched = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()]
    assert sorted(fetched) == ["adapter_config.json", EXPERT_FILE]
    asked = len(hub.asked)
    again = Expert.from_pretrained("hf://owner/name", revision=commit, local_files_only=True)
    assert again.file.tobytes() == found.file.tobytes()
    assert len(hub.asked) == asked


def test_revisions_folders_and_tokens(hub: FakeHub, tmp_path: Path):
    hub.put("owner/name", files(0))
    hub.put("owner/name", files(1), "v1")
    hub.put("owner/name", files(2, "math/small/"), "dev/x")
    for name, seed in (
        ("hf://owner/name", 0),
        ("hf://owner/name@v1", 1),
        ("hf://owner/name@dev%2Fx/math/small", 2),
    ):
        assert Expert.load(name).file.tobytes() == expert(seed).file.tobytes()
        assert Expert.load(Path(name)).file.tobytes() == expert(seed).file.tobytes()
    assert hub.tokens == {None}
    one = Expert.from_pretrained(
        "owner/name", revision="v1", token="hf_x", cache_dir=tmp_path / "c"
    )
    assert one.file.tobytes() == expert(1).file.tobytes()
    assert hub.tokens == {None, "Bearer hf_x"}
    assert (tmp_path / "c/models--owner--name/refs/v1").exists()
    with pytest.raises(MetroFastError, match="give one"):
        Expert.from_pretrained("hf://owner/name@v1", revision="v2")


def test_an_expert_without_configuration(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    hub.put("owner/name", {EXPERT_FILE: expert().file.tobytes()})
    assert Expert.load("hf://owner/name").config is None
    # The cache too knows that it has none.
    assert Expert.from_pretrained("owner/name", local_files_only=True).config is None
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert Expert.load("hf://owner/name").config is None


def test_everything_that_takes_a_path_takes_a_name(hub: FakeHub):
    hub.put("owner/a", files(0))
    hub.put("owner/b", files(1))
    names, both = ["hf://owner/a", "hf://owner/b"], [expert(0), expert(1)]
    found = similarity(names)
    assert found.names == ("a", "b")
    np.testing.assert_array_equal(found.matrix, similarity(both).matrix)
    key = "base_model.model.q.ia3_l"
    np.testing.assert_array_equal(
        merge(names).residuals[key].values, merge(both).residuals[key].values
    )
    summand = read_summand(names[1])
    assert isinstance(summand, Expert)
    assert summand.file.tobytes() == both[1].file.tobytes()
    assert [expert_name(name) for name in (*names, "hf://o/n@v1/x/math", "a/b")] == [
        "a", "b", "math", "b",
    ]  # fmt: skip


def test_the_pool_reads_the_same_commit_again(hub: FakeHub):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from metro_fast.experts import ExpertPool

    def base():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(16, 16))

    def trained(seed: int) -> Expert:
        model = peft.get_peft_model(base(), peft.LoraConfig(r=2, target_modules=["0"]))
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, generator=generator)
        return compress(model, density=0.5)

    experts = [trained(seed) for seed in range(3)]
    for i, one in enumerate(experts):
        assert one.config is not None
        hub.put(f"owner/{i}", {EXPERT_FILE: one.file.tobytes(), "adapter_config.json": one.config})
    pool = ExpertPool(base(), max_bytes=2 * max(one.nbytes for one in experts))
    for i in range(3):
        pool.add(str(i), f"hf://owner/{i}")
    hub.put("owner/1", {EXPERT_FILE: experts[2].file.tobytes()})  # pushed meanwhile
    inputs, asked = torch.ones(1, 16), len(hub.asked)
    for i in (1, 2, 0, 1):
        with pool.use(str(i)) as model:
            expected = load_expert(base(), experts[i])(inputs)
            torch.testing.assert_close(model(inputs), expected, rtol=0, atol=0)
    assert len(hub.asked) == asked


def test_answers_of_the_hub_become_clear_errors(hub: FakeHub):
    hub.put("owner/name", {"adapter_model.safetensors": b""})
    cases: list[tuple[str, dict[str, object], type[OSError], str]] = [
        ("hf://owner/none", {}, FileNotFoundError, "no repository owner/none.*hf auth login"),
        ("hf://owner/name@v9", {}, FileNotFoundError, "owner/name has no revision 'v9'"),
        ("hf://owner/name", {}, FileNotFoundError, f"name at revision main has no {EXPERT_FILE}"),
        ("hf://owner/name@main/x", {}, FileNotFoundError, f"has no x/{EXPERT_FILE}.*compress"),
        ("hf://owner/name", {"GatedRepo": 403}, PermissionError, "gated: ask for access at https"),
        ("hf://owner/name", {"": 403}, PermissionError, r"the Hub refused .*\(403"),
        ("hf://owner/name", {"": 418}, OSError, "the Hub answered 418 to owner/name at revision"),
    ]
    for name, failure, kind, message in cases:
        hub.fail = {}
        for code, status in failure.items():
            assert isinstance(status, int)
            hub.fail["/resolve/"] = (status, {"X-Error-Code": code})
        with pytest.raises(kind, match=message) as caught:
            Expert.load(name)
        assert caught.value.__cause__ is not None


def test_no_connection(hub: FakeHub):
    hub.fail["/resolve/"] = httpx.ConnectError("refused")
    with pytest.raises(FileNotFoundError, match=r"main is not in the cache.*ConnectError: refused"):
        Expert.load("hf://owner/name")
    hub.fail["/resolve/"] = httpx.ProxyError("no way")
    with pytest.raises(ConnectionError, match=r"ProxyError: no way\): check the connection"):
        Expert.load("hf://owner/name")


def test_other_failures_of_a_transfer(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    """Errors that the Hub in memory cannot cause; the call fits the real signature."""
    real = inspect.signature(huggingface_hub.hf_hub_download)

    def failing(error: Exception):
        def download(*args: object, **options: object) -> str:
            real.bind(*args, **options)
            raise error

        return download

    full = OSError(errno.ENOSPC, "No space left on device")
    for error, kind, message in (
        (RuntimeError("xet"), OSError, "the transfer of owner/name at revision main failed: xet"),
        (full, OSError, "No space left on device"),
        (ValueError("odd"), MetroFastError, "owner/name at revision main: odd"),
    ):
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(error))
        with pytest.raises(kind, match=message):
            Expert.load("hf://owner/name")


def test_stock_peft_finds_no_weights(hub: FakeHub):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    raw = json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["0"]}).encode()
    hub.put("owner/name", {EXPERT_FILE: expert().file.tobytes(), "adapter_config.json": raw})
    with pytest.raises(ValueError, match="Can't find weights for owner/name"):
        peft.PeftModel.from_pretrained(torch.nn.Sequential(torch.nn.Linear(4, 4)), "owner/name")


def test_a_damaged_download_is_refused(hub: FakeHub):
    data = bytearray(expert().file.tobytes())
    data[-40] ^= 1
    hub.put("owner/name", {EXPERT_FILE: bytes(data), "adapter_config.json": CONFIG})
    with pytest.raises(FormatError, match=EXPERT_FILE):
        Expert.load("hf://owner/name").verify()


def test_a_cache_is_enough(offline: Path):
    cached(offline, "owner/name", files())
    commit = cached(offline, "owner/other", files(1, "math/"), ref="v1")
    for name, seed in (
        ("hf://owner/name", 0),
        ("hf://owner/other@v1/math", 1),
        (f"hf://owner/other@{commit}/math", 1),
    ):
        found = Expert.load(name)
        assert found.file.tobytes() == expert(seed).file.tobytes()
        assert found.config == CONFIG
    folder = resolve_expert("hf://owner/other@v1/math")
    assert folder == offline / "models--owner--other/snapshots" / commit / "math"
    found = Expert.from_pretrained("owner/name", cache_dir=offline, local_files_only=True)
    assert found.file.tobytes() == expert().file.tobytes()


def test_without_a_cache_the_error_names_offline_mode(offline: Path):
    with pytest.raises(
        FileNotFoundError, match=r"owner/name at revision v1 is not in the.*HF_HUB_OFFLINE"
    ):
        Expert.load("hf://owner/name@v1")
    with pytest.raises(FileNotFoundError, match="local_files_only=True forbids asking"):
        Expert.from_pretrained("owner/name", local_files_only=True)
    # Half an expert is not loaded: its configuration was never fetched.
    cached(offline, "owner/half", {EXPERT_FILE: expert().file.tobytes()})
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json of owner/half at .* HF_HUB"):
        Expert.load("hf://owner/half")


def test_the_commands_take_names(offline: Path, tmp_path: Path):
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 4, "lora_alpha": 8}
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        state = {
            f"base_model.model.q.lora_{x}.weight": rng.standard_normal(shape).astype(np.float32)
            for x, shape in (("A", (4, 30)), ("B", (30, 4)))
        }
        one = compress(state, density=0.5)
        weights = {EXPERT_FILE: one.file.tobytes(), PICKLE: b"a pickle"}
        raw = json.dumps(config).encode()
        cached(offline, f"owner/{name}", weights | {"adapter_config.json": raw})
    names = ["hf://owner/a", "hf://owner/b"]

    def run(app: Any, *arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    output = run(expert_inspect.app, names[0])
    assert "hf://owner/a" in output
    assert "240 parameters" in output
    run(expert_decompress.app, names[0], tmp_path / "plain")
    run(expert_export.app, *names, "--out", tmp_path / "served")
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["a", "b"]
    run(expert_merge.app, *names, "--out", tmp_path / "merged")
    for folder in ("plain", "served/a", "served/b", "merged"):
        assert (tmp_path / folder / "adapter_model.safetensors").exists()
    output = run(expert_similarity.app, *names, "--csv", tmp_path / "pairs.csv")
    assert (tmp_path / "pairs.csv").read_text().startswith("expert,a,b\n")
    assert "# a\n" in run(expert_card.app, names[0], "--repo", "owner/a")


@pytest.mark.parametrize("command", ["inspect", "push", "card"])
def test_errors_of_commands_are_one_line(command: str, tmp_path: Path):
    rest = ["owner/copy"] if command == "push" else []
    arguments = [
        sys.executable,
        "-m",
        "metro_fast.cli",
        "expert",
        command,
        "hf://owner/none",
        *rest,
    ]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("metro-fast: adapter_model.compeft.safetensors of owner/none at")
    assert done.stderr.count("\n") == 1
    done = subprocess.run([*arguments, "--help"], capture_output=True, text=True, check=True)
    assert f"Usage: metro-fast expert {command}" in done.stdout


def test_importing_brings_neither_the_hub_nor_torch():
    code = (
        "import sys, metro_fast.experts\n"
        "print({'huggingface_hub', 'torch', 'yaml', 'httpx', 'httpx2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

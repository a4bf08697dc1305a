"""experts.export and the resolver for vLLM, the latter against stubs of vLLM's two classes."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import EXPERT_FILE, compress, export
from vllm_cases import expert, vllm

assert vllm  # the fixture


def test_folders_that_peft_reads(tmp_path: Path):
    from metro_fast.experts.adapters.state_file import read_safetensors

    experts = {"a": expert(0), "b": expert(1)}
    folders = export(experts, tmp_path / "served", dtype=np.float16)
    assert [folder.name for folder in folders] == ["a", "b"]
    for name, one in experts.items():
        folder = tmp_path / "served" / name
        assert sorted(path.name for path in folder.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        # Rank 4 becomes 8, as LoRAX pads it, at the same scaling; the factors get zeros.
        config = json.loads((folder / "adapter_config.json").read_bytes())
        assert (config["r"], config["lora_alpha"], config["target_modules"]) == (8, 16, ["q"])
        found = read_safetensors(folder / "adapter_model.safetensors")
        for key, values in one.arrays(np.float16).items():
            pads = [(0, 4 * (size == 4)) for size in values.shape]
            np.testing.assert_array_equal(found[key].data, np.pad(values, pads))
    assert not list((tmp_path / "served").glob(".*"))
    with pytest.raises(MetroFastError, match="exists already"):
        export({"a": experts["a"]}, tmp_path / "served")


def test_experts_that_servers_do_not_load_are_refused(tmp_path: Path):
    ia3 = expert(peft_type="IA3")
    cases = [
        ({"../a": expert()}, "cannot be the name of a folder"),
        ({"": expert()}, "cannot be the name of a folder"),
        ({"a": ia3}, "servers only load LoRA"),
        ({"a": expert(base_model_name_or_path=None)}, "has no base_model_name_or_path"),
        ({"a": compress({"w": np.eye(2, dtype=np.float32)}, kind="other", density=1)}, "has no"),
    ]
    for experts, message in cases:
        with pytest.raises(MetroFastError, match=message):
            export({"ok": expert()} | experts, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_vllm_resolves_experts_by_name(vllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from metro_fast.experts.plain.vllm_resolver import register

    monkeypatch.delenv("METRO_FAST_EXPERTS", raising=False)
    register()
    assert not vllm.resolvers
    monkeypatch.setenv("METRO_FAST_EXPERTS", str(tmp_path / "experts"))
    (tmp_path / "experts").mkdir()
    monkeypatch.setenv("METRO_FAST_EXPERTS_PLAIN", str(tmp_path / "plain"))
    register()
    resolver = vllm.resolvers["metro_fast"]

    def resolve(name: str, base: str = "org/base"):
        return asyncio.run(resolver.resolve_lora(base, name))

    expert(0).save(tmp_path / "experts/math")
    found = resolve("math")
    assert (found.lora_name, found.lora_int_id > 0) == ("math", True)
    assert (Path(found.lora_path) / "adapter_model.safetensors").exists()
    assert resolve("math") == found
    for name, base in (("math", "org/other"), ("none", "org/base"), ("../math", "org/base")):
        assert resolve(name, base) is None
    # A new version of the expert is another adapter.
    expert(1).save(tmp_path / "experts/math")
    again = resolve("math")
    assert (again.lora_path, again.lora_int_id) != (found.lora_path, found.lora_int_id)
    (tmp_path / "experts/math" / EXPERT_FILE).write_bytes(b"damaged")
    with pytest.raises(FormatError):
        resolve("math")


def test_the_command(tmp_path: Path):
    from typer.testing import CliRunner

    from metro_fast.cli.expert_export import app

    expert().save(tmp_path / "math")
    arguments = [str(tmp_path / "math"), "--out", str(tmp_path / "served"), "--dtype", "bfloat16"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, (found.output, found.exception)
    assert (tmp_path / "served/math/adapter_model.safetensors").exists()

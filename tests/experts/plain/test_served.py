"""Exported folders, read by the rule of each server and by stock PEFT: the update of the expert."""

import json
import warnings
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

import adapter_kinds
from adapter_kinds import Case
from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, decompress, export
from metro_fast.experts.plain.shelf import Shelf
from metro_fast.experts.plain.vllm_resolver import expand
from server_readers import READERS

# PEFT takes a bias of B for a tensor of which ZeRO-3 left a shard.
pytestmark = pytest.mark.filterwarnings("ignore:.*lora_B.bias")
TWO = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
CASES = {
    "rank 4 of LoRAX's 8": TWO | {"r": 4, "lora_alpha": 8},
    "rank 12": TWO | {"r": 12, "lora_alpha": 24},
    "rank 16, as it is": TWO | {"r": 16, "lora_alpha": 32},
    "rslora at rank 4: 4 and not 2": TWO | {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "rslora at rank 8": TWO | {"r": 8, "lora_alpha": 16, "use_rslora": True},
    "alpha pattern": TWO | {"r": 4, "lora_alpha": 8, "alpha_pattern": {"q_proj": 3}},
    "rank pattern": TWO | {"r": 4, "lora_alpha": 8, "rank_pattern": {"layers.1.*.v_proj": 9}},
    "all three": TWO
    | {
        "r": 4,
        "lora_alpha": 8,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2, "down_proj": 10},
        "alpha_pattern": {"v_proj": 5},
    },
    "pattern of modules": {"target_modules": r".*\.(q|v)_proj", "r": 4},
    "all linear": {"target_modules": "all-linear", "r": 4},
    "other start": TWO | {"r": 4, "init_lora_weights": "gaussian", "lora_dropout": 0.1},
    "head that nothing matches": TWO | {"r": 4, "modules_to_save": []},
}
DTYPES = {torch.float32: 1e-6, torch.bfloat16: 2**-8}


def made(options: dict, folder: Path, seed: int = 1, dtype: torch.dtype = torch.float32) -> Expert:
    adapter_kinds.make(Case(options), folder, seed, dtype)
    return compress(folder, density=0.5)


def updates(folder: Path) -> dict[str, torch.Tensor]:
    """The update of each weight by stock PEFT."""
    base = adapter_kinds.llama()
    weights = {n: p.detach().clone() for n, p in base.named_parameters() if p.dim() == 2}
    model = peft.PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False)
    merged = dict(model.double().merge_and_unload().named_parameters())
    found = {n.removesuffix(".weight"): merged[n] - weights[n].double() for n in weights}
    return {name: delta.detach() for name, delta in found.items() if delta.any()}


def modules() -> list[str]:
    names = (n for n, m in adapter_kinds.llama().named_modules() if type(m) is torch.nn.Linear)
    return [name for name in names if name != "lm_head"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in CASES]
    + [(name, torch.bfloat16) for name in ("rank 12", "rslora at rank 8", "all three")],
)
def test_every_server_and_peft_read_the_update_of_the_expert(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    expert = made(CASES[name], tmp_path / "adapter", dtype=dtype)
    decompress(expert, tmp_path / "plain")
    (folder,) = export({"x": expert}, tmp_path / "served")
    assert {
        tensor.dtype for tensor in load_file(folder / "adapter_model.safetensors").values()
    } == {dtype}
    expected = updates(tmp_path / "plain")
    read = {"peft": updates(folder)}
    read |= {server: reader(folder, modules()) for server, reader in READERS.items()}
    for server, found in read.items():
        assert found.keys() == expected.keys(), server
        for module, delta in expected.items():
            error = (found[module] - delta).norm() / delta.norm()
            assert error <= DTYPES[dtype], (server, module, error)


def test_servers_misread_the_folder_of_peft_itself(tmp_path: Path) -> None:
    """The readings are not vacuous: each of these differs on a folder that nobody rewrote."""
    options = TWO | {"r": 4, "lora_alpha": 8, "use_rslora": True, "alpha_pattern": {"q_proj": 3}}
    decompress(made(options, tmp_path / "adapter"), tmp_path / "plain")
    expected = updates(tmp_path / "plain")
    for server, reader in READERS.items():
        found = reader(tmp_path / "plain", modules())
        ratios = {module: found[module].norm() / delta.norm() for module, delta in expected.items()}
        assert max(abs(1 - ratio) for ratio in ratios.values()) > 0.3, server


def test_the_resolver_writes_what_export_writes(tmp_path: Path) -> None:
    expert = made(CASES["all three"], tmp_path / "adapter")
    expert.save(tmp_path / "experts/math")
    (served,) = export({"math": expert}, tmp_path / "served")
    found = expand(
        tmp_path / "experts", Shelf(tmp_path / "plain", "PLAIN"), adapter_kinds.NAME, "math"
    )
    assert found is not None
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (found / name).read_bytes() == (served / name).read_bytes()


REFUSED = {
    "alora_invocation_tokens": {"alora_invocation_tokens": [7, 8]},
    "bias": {"bias": "lora_only"},
    "layer_replication": {"layer_replication": [(0, 2), (1, 2)]},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "use_dora": {"use_dora": True},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_no_server_reads_is_refused_by_name(setting: str, tmp_path: Path) -> None:
    expert = made(TWO | {"r": 4} | REFUSED[setting], tmp_path / "adapter")
    expert.save(tmp_path / "experts/x")
    with pytest.raises(MetroFastError, match=f"{setting} of x is set|modules_to_save"):
        export({"ok": made(TWO | {"r": 4}, tmp_path / "ok"), "x": expert}, tmp_path / "served")
    with pytest.raises(MetroFastError, match=f"{setting} of x is set|modules_to_save"):
        expand(tmp_path / "experts", Shelf(tmp_path / "plain", "PLAIN"), adapter_kinds.NAME, "x")
    assert not (tmp_path / "served").exists()
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainable_token_indices": [1]}, "trainable_token_indices of x is set"),
        ({"use_qalora": True}, "use_qalora of x is set"),
        ({"arrow_config": {"top_k": 1}}, "arrow_config of x is set"),
        ({"later_setting": 1}, "later_setting of x is set .1., and whether servers read it"),
        ({"r": 5}, "has rank 4, but adapter_config.json says 5"),
        ({"lora_alpha": "8"}, "lora_alpha"),
    ],
)
def test_configurations_that_do_not_say_the_update(change, message, tmp_path: Path) -> None:
    expert = made(TWO | {"r": 4}, tmp_path / "adapter")
    assert expert.config is not None
    expert.config = json.dumps(json.loads(expert.config) | change).encode()
    with pytest.raises(MetroFastError, match=message):
        export({"x": expert}, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_scaled_b_that_float16_cannot_hold(tmp_path: Path) -> None:
    options = TWO | {
        "r": 4,
        "lora_alpha": 10**7,
        "use_rslora": True,
        "alpha_pattern": {"q_proj": 3},
    }
    expert = made(options, tmp_path / "adapter")
    with pytest.raises(MetroFastError, match=r"times its scaling 5e\+06 does not fit F16"):
        export({"x": expert}, tmp_path / "served", dtype="float16")
    assert not list((tmp_path / "served").iterdir())
    export({"x": expert}, tmp_path / "served", dtype="bfloat16")


def test_parts_that_some_servers_leave_out_are_named(tmp_path: Path) -> None:
    some = made({"target_modules": ["q_proj"], "r": 4, "layers_to_transform": [1]}, tmp_path / "a")
    with pytest.warns(UserWarning, match=r"x adapts .*layers\.1.*q_proj and not .* every layer"):
        export({"x": some}, tmp_path / "served")
    embeddings = made({"target_modules": ["q_proj", "embed_tokens"], "r": 4}, tmp_path / "b")
    assert not embeddings.dense
    with pytest.warns(UserWarning, match=r"embed_tokens\.lora_embedding_A.*LoRAX and TGI"):
        export({"y": embeddings}, tmp_path / "served")
    whole = made(TWO | {"r": 4}, tmp_path / "c")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export({"z": whole}, tmp_path / "served")

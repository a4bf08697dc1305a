"""Every type of adapter of PEFT and setting of LoRA, at each door: the tables of the page."""

import json
from pathlib import Path

import peft
import pytest
import torch

import adapter_doors
import adapter_kinds
from adapter_doors import DOORS, EQUAL, logits, stock
from adapter_kinds import LORA, Case
from metro_fast import MetroFastError
from metro_fast.experts import (
    Expert,
    ExpertPool,
    add_to_base,
    compress,
    decompress,
    export,
    load_expert,
    load_experts,
    merge,
    tune_compression,
)
from metro_fast.experts.adapters.peft_folder import kind_of
from model_state import ModelState
from strangers import with_other_config

PAGE = (Path(__file__).parents[3] / "docs" / "adapter-types.md").read_text("utf-8")
CASES = {name: case for part in adapter_doors.kinds().values() for name, case in part.items()}
# PEFT takes a bias of B for a tensor of which ZeRO-3 left a shard.
pytestmark = pytest.mark.filterwarnings("ignore:.*lora_B.bias")
QUICK = ("LORA", "IA3", "LOHA", "use_rslora", "use_dora", "bias", "lora_bias")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
)
@pytest.mark.filterwarnings("ignore")  # PEFT warns of many of its own settings
def test_the_page_says_what_each_door_does(name: str, tmp_path: Path) -> None:
    row = adapter_doors.line(name, adapter_doors.Row(CASES[name], tmp_path).cells())
    assert row in PAGE.splitlines(), (
        f"{row}: run python tests/support/adapter_doors.py --write docs/adapter-types.md"
    )


def test_the_page_has_every_type_and_setting() -> None:
    tables = PAGE.split(adapter_doors.BEGIN)[1].splitlines()
    rows = [row for row in tables if row.startswith("| `") and DOORS[0] not in row]
    assert [row.split("`")[1] for row in rows] == list(CASES)
    assert {kind.value for kind in peft.PeftType} <= set(CASES)
    fields = {name.split(",")[0].split()[0] for name in adapter_kinds.SETTINGS}
    known = set(peft.LoraConfig.__dataclass_fields__)
    assert fields - known == {"convolution"}


def expert(options: dict, folder: Path, seed: int = 1) -> Expert:
    adapter_kinds.make(Case(LORA | options), folder, seed)
    return compress(folder, density=0.5)


def supported(kind: str) -> bool:
    try:
        kind_of({"peft_type": kind})
    except MetroFastError:
        return False
    return True


def test_an_expert_of_another_type_is_refused_at_every_door(tmp_path: Path) -> None:
    """Its configuration claims the type, which no door may read as plain LoRA."""
    good = expert({}, tmp_path / "adapter")
    assert good.config is not None
    tried = 0
    base = adapter_kinds.llama()
    before = ModelState(base)
    for kind in (kind.value for kind in peft.PeftType):
        if supported(kind):
            continue
        config = json.dumps(json.loads(good.config) | {"peft_type": kind}).encode()
        other = with_other_config(good, config)
        for call in (
            lambda other: load_expert(base, other),
            lambda other: load_experts(base, {"a": good, "b": other}),
            lambda other: ExpertPool(base).add("a", other),
            lambda other: export({"a": other}, tmp_path / "served"),
            lambda other: add_to_base(base, other),
            lambda other: merge([good, other]),
        ):
            with pytest.raises(MetroFastError, match=kind):
                call(other)
            tried += 1
    assert tried == 6 * (len(peft.PeftType) - 5)
    assert not before.differences(ModelState(base))
    assert not (tmp_path / "served").exists()


def test_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    one = expert({"use_dora": True}, tmp_path / "adapter")
    source = peft.utils.load_peft_weights(tmp_path / "adapter", device="cpu")
    magnitudes = {name for name in source if "magnitude" in name}
    assert set(one.dense) == magnitudes
    assert len(magnitudes) == 4
    assert all(torch.equal(one.state_dict()[name], source[name]) for name in magnitudes)


def test_updates_that_do_not_add_up_are_refused_by_name(tmp_path: Path) -> None:
    plain = expert({}, tmp_path / "plain")
    for setting, options in (("use_dora", {"use_dora": True}), ("bias", {"bias": "all"})):
        other = expert(options, tmp_path / setting)
        base = adapter_kinds.llama()
        before = ModelState(base)
        with pytest.raises(MetroFastError, match=f"{setting} of expert 'b' is set"):
            load_experts(base, {"a": plain, "b": other})
        assert not before.differences(ModelState(base))
        model = load_experts(adapter_kinds.llama(), {"b": other})
        decompress(other, tmp_path / f"{setting} plain")
        expected = logits(stock(Case(LORA | options), tmp_path / f"{setting} plain"))
        assert torch.equal(logits(model), expected)


def test_a_weight_scales_the_bias_of_b_too(tmp_path: Path) -> None:
    """PEFT's scale_layer multiplies B A x and the bias of B; before, only B was multiplied."""
    options = {"lora_bias": True}
    one = expert(options, tmp_path / "adapter")
    found = logits(load_experts(adapter_kinds.llama(), {"a": one}, {"a": 0.5}))
    decompress(one, tmp_path / "plain")
    model = stock(Case(LORA | options), tmp_path / "plain")
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.scale_layer(0.5)
    torch.testing.assert_close(found, logits(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", ["use_dora", "lora_bias", "bias"])
def test_a_search_scores_what_peft_computes_and_restores_the_base(
    setting: str, tmp_path: Path
) -> None:
    """The biases of the base that a candidate had replaced stayed in it."""
    options = adapter_kinds.SETTINGS[setting]
    adapter_kinds.make(Case(LORA | options), tmp_path / "adapter", 1)
    decompress(compress(tmp_path / "adapter", density=0.5, alpha=1.0), tmp_path / "plain")
    expected = logits(stock(Case(LORA | options), tmp_path / "plain"))
    base, seen = adapter_kinds.llama(), []
    before = {name: weight.clone() for name, weight in base.state_dict().items()}

    def score(model: torch.nn.Module) -> float:
        seen.append(logits(model))
        return 0.0

    tune_compression(tmp_path / "adapter", base, score, densities=[0.5], alphas=[1.0])
    assert torch.equal(seen[-1], expected)
    after = base.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_pool_does_not_scale_a_bias_of_b_wrong(tmp_path: Path) -> None:
    pool = ExpertPool(adapter_kinds.llama())
    pool.add("a", expert({"lora_bias": True}, tmp_path / "a"))
    with pytest.raises(MetroFastError, match="lora_bias is set, and the expert scales"):
        pool.add("b", expert({"lora_bias": True, "lora_alpha": 4}, tmp_path / "b", 2))
    pool.add("c", expert({"lora_bias": True}, tmp_path / "c", 3))
    assert pool.names == ("a", "c")


def test_cells_are_not_vacuous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that does something else fails the row, and does not write another word."""
    row = adapter_doors.Row(CASES["LORA"], tmp_path)
    assert row.cells()["load_expert"] == EQUAL
    row.expected[0] += 1
    with pytest.raises(AssertionError):
        row._cell(row._load)
    monkeypatch.setattr(adapter_doors, "export", lambda *_: (_ for _ in ()).throw(KeyError("r")))
    with pytest.raises(KeyError):
        row._cell(row._export)

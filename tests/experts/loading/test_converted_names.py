"""Adapters of transformers 4 whose names and layouts PEFT converts when it loads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import (
    Expert,
    ExpertPool,
    add_to_base,
    compress,
    decompress,
    load_expert,
    merge,
)

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from safetensors.torch import save_file

from model_state import ModelState

# PEFT looks for the patterns that it wrote itself among the modules, and they are for parameters.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"
)
WIDTH, INNER, EXPERTS, RANK = 16, 24, 3, 2
QWEN = {"gate_proj": (INNER, WIDTH), "up_proj": (INNER, WIDTH), "down_proj": (WIDTH, INNER)}
SHAPES = {
    "mixtral": {"w1": (INNER, WIDTH), "w3": (INNER, WIDTH), "w2": (WIDTH, INNER)},
    "qwen2_moe": QWEN,
    "qwen3_moe": QWEN,
}


def base(family: str) -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": WIDTH, "intermediate_size": INNER}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    if family == "mixtral":
        config = transformers.MixtralConfig(
            **shape, num_local_experts=EXPERTS, num_experts_per_tok=2
        )
        return transformers.MixtralForCausalLM(config).eval()
    if family == "qwen3_moe":
        config = transformers.Qwen3MoeConfig(
            **shape, moe_intermediate_size=INNER, num_experts=EXPERTS, num_experts_per_tok=2
        )
        return transformers.Qwen3MoeForCausalLM(config).eval()
    sizes = {"moe_intermediate_size": INNER, "shared_expert_intermediate_size": INNER}
    config = transformers.Qwen2MoeConfig(
        **shape, **sizes, num_experts=EXPERTS, num_experts_per_tok=2
    )
    return transformers.Qwen2MoeForCausalLM(config).eval()


def folder_of(family: str, targets: list[str], folder: Path, seed: int = 1) -> Path:
    """An adapter as PEFT wrote it under transformers 4: A and B for each expert of the mixture."""
    generator = torch.Generator().manual_seed(seed)
    inside = "block_sparse_moe" if family == "mixtral" else "mlp"
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(2):
        prefix = f"base_model.model.model.layers.{layer}."
        for name in targets:
            if name == "q_proj":
                shapes[f"{prefix}self_attn.q_proj"] = (WIDTH, WIDTH)
            elif name == "gate":
                shapes[f"{prefix}{inside}.gate"] = (EXPERTS, WIDTH)
            elif family == "qwen2_moe":
                shapes[f"{prefix}mlp.shared_expert.{name}"] = SHAPES[family][name]
            for one in range(EXPERTS * (name in SHAPES[family])):
                shapes[f"{prefix}{inside}.experts.{one}.{name}"] = SHAPES[family][name]
    state = {}
    for name, (rows, columns) in shapes.items():
        state[f"{name}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        state[f"{name}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    folder.mkdir()
    save_file(state, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    return folder


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(1, 9)[None]).logits


CASES = {
    "all": ("mixtral", ["q_proj", "w1", "w2", "w3"]),
    "w2": ("mixtral", ["w2"]),
    "router": ("mixtral", ["q_proj", "gate"]),
    "qwen": ("qwen3_moe", ["q_proj", *QWEN]),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_stock_peft(case: str, tmp_path: Path) -> None:
    family, targets = CASES[case]
    expert = compress(folder_of(family, targets, tmp_path / "one"), density=0.5)
    decompress(expert, tmp_path / "plain")
    stock = peft.PeftModel.from_pretrained(
        base(family), tmp_path / "plain", autocast_adapter_dtype=False
    )
    found = load_expert(base(family), expert)
    assert torch.equal(logits(found), logits(stock))
    assert not torch.equal(logits(found), logits(base(family)))
    merged = stock.merge_and_unload(safe_merge=True)
    assert torch.equal(logits(add_to_base(base(family), expert)), logits(merged))


def test_a_merge_of_such_adapters_is_added_to_the_base(tmp_path: Path) -> None:
    targets = ["w1", "w2", "w3"]
    folders = [folder_of("mixtral", targets, tmp_path / str(seed), seed) for seed in (1, 2)]
    one = compress(folders[0], density=0.5)
    alone = merge([one], method="task_arithmetic")
    found, wanted = (add_to_base(base("mixtral"), source) for source in (alone, one))
    torch.testing.assert_close(logits(found), logits(wanted), atol=1e-6, rtol=0)


def test_weights_that_peft_would_drop_in_silence_are_refused(tmp_path: Path) -> None:
    """PEFT 0.21 converts the weights of a Qwen2-MoE, but not its list of targets."""
    expert = compress(folder_of("qwen2_moe", list(QWEN), tmp_path / "one"), density=0.5)
    model = base("qwen2_moe")
    before = ModelState(model)
    for call in (load_expert, add_to_base, lambda m, e: ExpertPool(m).add("a", e)):
        with pytest.raises(MetroFastError, match=r"no place for .*mlp\.experts\.lora_A"):
            call(model, expert)
        assert before.differences(ModelState(model)) == []


def test_what_cannot_be_converted_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    """One of two fused targets; one expert of a mixture too few; a pool, which decodes in place."""
    half = compress(folder_of("mixtral", ["w1", "w2"], tmp_path / "half"), density=0.5)
    whole = compress(folder_of("mixtral", ["w1", "w2", "w3"], tmp_path / "whole"), density=0.5)
    state = {n: t for n, t in whole.state_dict().items() if "experts.2.w2" not in n}
    few = Expert(compress(state, kind="lora", density=1.0).file, whole.config)
    model = base("mixtral")
    before = ModelState(model)
    for call, message in (
        (lambda: load_expert(model, half), "without also targeting w3"),
        (lambda: add_to_base(model, half), "without also targeting w3"),
        (lambda: load_expert(model, few), r"has shape|cannot convert"),
        (lambda: add_to_base(model, few), r"has shape|cannot convert"),
        (lambda: ExpertPool(model).add("a", whole), "another name or layout when PEFT loads it"),
    ):
        with pytest.raises(MetroFastError, match=message):
            call()
        assert before.differences(ModelState(model)) == []

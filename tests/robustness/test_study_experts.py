"""One base with experts swapped on it: each is, bit for bit, what it is when it is loaded alone."""

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from metro_fast.errors import MetroFastError
from metro_fast.experts import ExpertPool, compress, load_expert
from metro_fast.prompts import Instruction, Item, Task
from metro_fast.robustness import Study, evaluate, evaluate_experts, load_adapter, reference_table
from metro_fast.robustness.study import swapping
from metro_fast.scoring import model_fingerprint

PLACES = ("paris", "rome", "oslo")
WORDINGS = [
    Instruction("which", "qa", "{{ text }} which city ?", ("t5",)),
    Instruction("choose", "qa", "choose between {{ options }} : {{ text }}"),
]
TASK = Task(
    "cities", "qa",
    tuple(Item(str(n), {"text": f"the cat in {PLACES[n % 3]} ."}, PLACES, n % 3) for n in range(9)),
)  # fmt: skip


@pytest.fixture
def causal(tiny_tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(params=["t5", "causal"])
def base(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("tiny_t5" if request.param == "t5" else "causal")


def write_experts(base: Any, folder: Path) -> dict[str, Path]:
    """A LoRA, it compressed twice, another one compressed, and one with another alpha."""
    names = ["q", "v"] if base.config.model_type == "t5" else ["q_proj", "v_proj"]
    kind = "SEQ_2_SEQ_LM" if base.config.model_type == "t5" else "CAUSAL_LM"
    for seed, (name, alpha) in enumerate((("full", 4), ("other", 4), ("louder", 16))):
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            r=2, lora_alpha=alpha, target_modules=names, task_type=kind, init_lora_weights=False
        )
        peft.get_peft_model(copy.deepcopy(base), config).save_pretrained(folder / name)
        compress(folder / name, density=0.5).save(folder / f"{name}-50")
    compress(folder / "full", density=0.2).save(folder / "full-20")
    order = ("full-50", "full", "full-20", "other-50", "louder-50")
    return {name: folder / name for name in order}


def test_each_expert_is_what_it_is_alone(
    base: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = write_experts(base, tmp_path)
    pooled: list[str] = []
    swap = ExpertPool.swap
    monkeypatch.setattr(
        ExpertPool, "swap", lambda pool, name: (pooled.append(name), swap(pool, name))[1]
    )
    known, clean = model_fingerprint(base), copy.deepcopy(base)
    study = evaluate_experts(
        base, tiny_tokenizer, [TASK], WORDINGS, experts, base_name="base", model_family="t5",
        originals={"full-50": "full", "full-20": "full"}, merged=["other-50"],
        seen_tasks={"full": ["cities"]}, output=tmp_path / "out",
    )  # fmt: skip
    assert model_fingerprint(base) == known
    assert pooled == ["full-50", "full-20", "other-50", "louder-50"]
    for member in study.members:
        name, model = member.card.name, copy.deepcopy(clean)
        if name == "full":
            model = load_adapter(model, experts[name])
        elif name != "base":
            model = load_expert(model, experts[name])
        alone = evaluate(
            model, tiny_tokenizer, [TASK], WORDINGS, model_name=name, model_family="t5"
        )
        assert alone.model_hash == member.report.model_hash, name
        assert [c.outcomes for c in alone.cells] == [c.outcomes for c in member.report.cells]
        assert member.card.size == sum(p.numel() for p in model.parameters())
    cards = {card.name: card for card in study.cards}
    assert [card.kind for card in study.cards] == [
        "base", "compressed", "expert", "compressed", "merged", "compressed"
    ]  # fmt: skip
    assert cards["full-20"].expert.density == pytest.approx(0.2)
    file = experts["full-20"] / "adapter_model.compeft.safetensors"
    assert cards["full-20"].expert.size_bytes == file.stat().st_size
    assert cards["full"].seen_tasks == ("cities",)
    assert Study.load(tmp_path / "out").card("full-20") == cards["full-20"]
    table = reference_table(study, "original", margin=0.5)
    assert [row["model"] for row in table.rows] == ["full-50", "full-20"]


def test_a_residual_of_whole_weights_needs_the_base_again(
    tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    tuned = copy.deepcopy(tiny_t5)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    whole = compress(tuned.state_dict(), kind="full", initial=tiny_t5.state_dict(), density=0.5)
    whole.save(tmp_path / "whole")
    experts = {"whole": tmp_path / "whole"} | write_experts(tiny_t5, tmp_path)
    few = {name: experts[name] for name in ("whole", "full-20")}
    arguments = (tiny_tokenizer, [TASK], WORDINGS, few)
    with pytest.raises(MetroFastError, match="expert before 'full-20' changed the weights"):
        evaluate_experts(copy.deepcopy(tiny_t5), *arguments, base_name="base")
    study = evaluate_experts(
        copy.deepcopy(tiny_t5), *arguments, base_name="base", reload=lambda: copy.deepcopy(tiny_t5)
    )
    alone = load_expert(copy.deepcopy(tiny_t5), experts["full-20"])
    assert study.members[-1].report.model_hash == model_fingerprint(alone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"experts": {}, "with_base": False},
            "is empty and with_base is False: give an expert, or with_base=True",
        ),
        ({"base_name": "full"}, "is called 'full', as the base is"),
        ({"originals": {"full-20": "x"}}, "originals names 'x', which is not an expert here"),
        ({"merged": ["x"]}, "merged names 'x', which is not an expert here"),
        ({"seen_tasks": {"x": ["qa"]}}, "seen_tasks names 'x', which is not a model here"),
    ],
)
def test_refusals_before_anything_is_asked(
    tiny_t5: Any, tiny_tokenizer: Any, changes: dict[str, Any], message: str
) -> None:
    arguments = {"experts": {"full": "a", "full-20": "b"}, "base_name": "base"} | changes
    with pytest.raises(MetroFastError, match=message):
        evaluate_experts(tiny_t5, tiny_tokenizer, [TASK], WORDINGS, **arguments)


def test_a_missing_expert_is_found_before_the_base_is_asked(
    tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    experts = {"full-20": write_experts(tiny_t5, tmp_path)["full-20"], "x": tmp_path / "x"}
    with pytest.raises(FileNotFoundError, match="x does not exist"):
        evaluate_experts(
            tiny_t5, tiny_tokenizer, [TASK], WORDINGS, experts, base_name="base",
            output=tmp_path / "out",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    (tmp_path / "x").mkdir()
    with pytest.raises(FileNotFoundError, match="holds neither"):
        swapping.find_source(tmp_path / "x")

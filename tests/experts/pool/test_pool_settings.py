"""ExpertPool and load_experts: settings beside the tensors, embeddings, vocabularies, heads."""

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
    load_experts,
)

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("transformers")

from model_state import ModelState
from refusals import good, llama, lora, moved
from strangers import with_other_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(tie_word_embeddings|save_embedding_layers|ensure_weight_tying):UserWarning"
)
IDS = torch.tensor([[1, 5, 6, 7, 8, 9], [2, 3, 5, 6, 4, 4]])
TOKENS = [5, 6]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def alora(seed: int, tokens: Any = TOKENS) -> Expert:
    config = lora(alora_invocation_tokens=tokens, task_type="CAUSAL_LM")
    return compress(moved(peft.get_peft_model(llama(), config), seed), density=0.5)


def stock(expert: Expert, folder: Path, base: Any) -> Any:
    decompress(expert, folder)
    return logits(peft.PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False))


def test_activated_loras_of_one_pool_have_the_same_invocation(tmp_path: Path) -> None:
    pool = ExpertPool(llama())
    experts = {"a": alora(1), "b": alora(2)}
    for name, expert in experts.items():
        pool.add(name, expert)
    plain = compress(moved(peft.get_peft_model(llama(), lora(task_type="CAUSAL_LM"))), density=0.5)
    for other in (alora(3, [6, 5]), alora(3, [7]), plain):
        with pytest.raises(MetroFastError, match=r"alora_invocation_tokens is .* of the pool have"):
            pool.add("other", other)
    for name, expert in experts.items():
        with pool.use(name) as model:
            assert torch.equal(logits(model), stock(expert, tmp_path / name, llama()))
    ordinary = ExpertPool(llama())
    ordinary.add("plain", plain)
    with pytest.raises(MetroFastError, match=r"alora_invocation_tokens is \[5, 6\]"):
        ordinary.add("a", experts["a"])


def test_an_activated_lora_is_neither_merged_nor_added_to_others() -> None:
    model = llama()
    before = ModelState(model)
    with pytest.raises(MetroFastError, match=r"alora_invocation_tokens is set: .*use load_expert"):
        add_to_base(model, alora(1))
    with pytest.raises(MetroFastError, match="alora_invocation_tokens of expert 'b' is set"):
        load_experts(model, {"a": good(), "b": alora(1)})
    assert before.differences(ModelState(model)) == []
    assert torch.equal(logits(load_experts(llama(), {"a": alora(1)})), logits(_loaded(alora(1))))


def _loaded(expert: Expert) -> Any:
    return load_expert(llama(), expert)


def test_a_scaling_of_0_is_one_like_others(tmp_path: Path) -> None:
    def expert(alpha: int) -> Expert:
        model = moved(peft.get_peft_model(llama(), lora(lora_alpha=alpha, task_type="CAUSAL_LM")))
        return compress(model, density=0.5)

    off, on = expert(0), expert(8)
    pool = ExpertPool(llama())
    before = ModelState(pool.model)
    # As the first of a pool it could never be swapped for another, nor be removed.
    with pytest.raises(MetroFastError, match=r"scales \S+ by 0 \(lora_alpha\): add another"):
        pool.add("off", off)
    assert (pool.names, pool.resident) == ((), None)
    assert before.differences(ModelState(pool.model)) == []
    pool.add("on", on)
    pool.add("off", off)
    expected = {n: stock(e, tmp_path / n, llama()) for n, e in (("on", on), ("off", off))}
    for name in ("on", "off", "on"):
        with pool.use(name) as model:
            assert torch.equal(logits(model), expected[name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fan_in_fan_out", True),
        ("layer_replication", [[0, 1], [1, 2]]),
        ("use_qalora", True),
        ("ensure_weight_tying", True),
        ("arrow_config", {"top_k": 2}),
        ("a_field_of_a_later_peft", "on"),
    ],
)
def test_a_setting_that_changes_the_forward_pass_must_be_equal(field: str, value: Any) -> None:
    pool = ExpertPool(llama())
    pool.add("first", good(1))
    before = ModelState(pool.model)
    expert = good(2)
    other = with_other_config(
        expert, json.dumps(json.loads(expert.config) | {field: value}).encode()
    )
    with pytest.raises(MetroFastError, match=f"{field} is "):
        pool.add("second", other)
    assert before.differences(ModelState(pool.model)) == []


def test_what_the_tensors_say_may_be_written_in_other_words(tmp_path: Path) -> None:
    """A pattern for the same modules, an older PEFT's configuration, another dropout."""
    pool = ExpertPool(llama())
    pool.add("first", good(1))
    expert = good(2)
    fields = json.loads(expert.config)
    few = {key: fields[key] for key in ("peft_type", "r", "lora_alpha", "base_model_name_or_path")}
    for i, more in enumerate(
        (
            {"target_modules": r".*\.(q|v)_proj"},
            {"target_modules": ["v_proj", "q_proj"], "lora_dropout": 0.5},
            {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 1]},
        )
    ):
        other = with_other_config(expert, json.dumps(few | more).encode())
        pool.add(str(i), other)
        with pool.use(str(i)) as model:
            assert torch.equal(logits(model), stock(other, tmp_path / str(i), llama()))


def test_the_rank_of_the_configuration_must_be_that_of_the_tensors() -> None:
    """The scaling is alpha / r, so a wrong r would scale the update without any sign of it."""
    pool = ExpertPool(llama())
    pool.add("first", good(1))
    for value, message in (
        (3, "has rank 2, but adapter_config.json says 3"),
        ("x", "r is 'x', expected a whole number"),
    ):
        expert = good(2)
        other = with_other_config(
            expert, json.dumps(json.loads(expert.config) | {"r": value}).encode()
        )
        with pytest.raises(MetroFastError, match=message):
            pool.add("second", other)


EMBEDDINGS = {
    "embedding": ({"target_modules": ["embed_tokens", "q_proj"]}, 0),
    "head": ({"target_modules": ["lm_head", "q_proj"]}, 0),
    "both": ({"target_modules": ["lm_head", "embed_tokens"]}, 0),
    "grown": ({"target_modules": ["q_proj"]}, 6),
    "grown embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, 6),
    "grown and trained": ({"modules_to_save": ["embed_tokens", "lm_head"]}, 6),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("case", EMBEDDINGS)
def test_embeddings_and_vocabularies_are_swapped(case: str, tied: bool, tmp_path: Path) -> None:
    """PEFT saves whole embeddings beside a LoRA of them, and where the vocabulary has grown."""
    options, grown = EMBEDDINGS[case]

    def base(seed: int) -> Any:
        model = llama(tied=tied)
        if grown:
            torch.manual_seed(5)
            model.resize_token_embeddings(40 + grown)
            model.get_input_embeddings().weight.data[40:] += seed
        return model

    experts = {}
    for seed in (1, 2):
        adapted = moved(peft.get_peft_model(base(seed), lora(**options)), seed)
        adapted.save_pretrained(tmp_path / str(seed), save_embedding_layers=bool(grown) or "auto")
        experts[str(seed)] = compress(tmp_path / str(seed), density=0.5)
    wanted = {n: stock(e, tmp_path / f"plain{n}", base(0)) for n, e in experts.items()}
    assert not torch.equal(wanted["1"], wanted["2"])
    pool = ExpertPool(base(0))
    for name, expert in experts.items():
        pool.add(name, expert)
        assert torch.equal(logits(load_expert(base(0), expert)), wanted[name])
    for name in ("1", "2", "1"):
        with pool.use(name) as model:
            assert torch.equal(logits(model), wanted[name])
    if grown:
        small = llama(tied=tied)
        before = ModelState(small)
        for call in (load_expert, lambda m, e: ExpertPool(m).add("a", e), add_to_base):
            with pytest.raises(MetroFastError, match=r"call model\.resize_token_embeddings\(46\)"):
                call(small, experts["1"])
            assert before.differences(ModelState(small)) == []


def test_a_second_expert_of_untied_embeddings_does_not_fit_a_tied_model(tmp_path: Path) -> None:
    def expert(tied: bool, seed: int) -> Expert:
        both = lora(target_modules=["lm_head", "embed_tokens"])
        adapted = moved(peft.get_peft_model(llama(tied=tied), both), seed)
        adapted.save_pretrained(tmp_path / str(seed))
        return compress(tmp_path / str(seed), density=0.5)

    pool = ExpertPool(llama())
    pool.add("tied", expert(True, 1))
    before = ModelState(pool.model)
    with pytest.raises(MetroFastError, match="one weight in the model and two in the expert"):
        pool.add("untied", expert(False, 2))
    assert pool.names == ("tied",)
    assert before.differences(ModelState(pool.model)) == []


def test_an_embedding_that_other_adapters_rely_on_is_not_replaced(tmp_path: Path) -> None:
    adapted = peft.get_peft_model(llama(), lora(target_modules=["embed_tokens"]))
    adapted.base_model.model.model.embed_tokens.base_layer.weight.data += 1.0
    moved(adapted).save_pretrained(tmp_path)
    expert = compress(tmp_path, density=0.5)
    model = load_expert(llama(), good())
    before = ModelState(model)
    with pytest.raises(MetroFastError, match=r"which would replace the one that the adapters"):
        load_expert(model, expert, "second")
    with pytest.raises(MetroFastError, match=r"which would replace the one that the adapters"):
        load_experts(llama(), {"a": good(), "b": expert})
    assert before.differences(ModelState(model)) == []


def with_head(seed: int) -> Expert:
    adapted = peft.get_peft_model(llama(tied=False), lora(modules_to_save=["lm_head"]))
    return compress(moved(adapted, seed), density=0.5)


def test_two_heads_are_named_and_one_is_used() -> None:
    model = llama(tied=False)
    before = ModelState(model)
    with pytest.raises(MetroFastError, match=r"experts 'a', 'c' each bring their own lm_head"):
        load_experts(model, {"a": with_head(1), "b": good(), "c": with_head(2)})
    assert before.differences(ModelState(model)) == []
    head = with_head(1)
    found = load_experts(model, {"plain": good(2), "head": head}, {"plain": 0.0})
    torch.testing.assert_close(logits(found), logits(load_expert(llama(tied=False), head)))

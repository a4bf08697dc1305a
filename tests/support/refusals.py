"""Experts that do not fit, models that cannot take one, and the doors through which they come."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import peft
import torch
import transformers

from metro_fast.experts import (
    Expert,
    ExpertPool,
    add_to_base,
    compose_fewshot,
    compress,
    load_expert,
    load_experts,
    task_vector,
    tune_compression,
)
from strangers import with_other_config

PREFIX = "base_model.model."


def llama(*, tied: bool = True, dtype: Any = torch.float32) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_bias=True,
        tie_word_embeddings=tied,
    )
    return transformers.LlamaForCausalLM(config).to(dtype)


def t5() -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24}
    config = transformers.T5Config(**shape, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(config)


def moved(adapted: Any, seed: int = 1) -> Any:
    """Every trained weight of a model, with noise in place of training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = (parameter.data + 0.1 * noise).to(parameter.dtype)
    return adapted.eval()


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"]} | options)


def good(seed: int = 1) -> Expert:
    return compress(moved(peft.get_peft_model(llama(), lora()), seed), density=0.5)


def _with_config(**fields: Any) -> Expert:
    expert = good()
    return with_other_config(expert, json.dumps(json.loads(expert.config) | fields).encode())


def _of_kind(kind: str, **fields: Any) -> Expert:
    config = {"peft_type": kind, "target_modules": ["q_proj", "v_proj"], **fields}
    if kind == "PROMPT_TUNING":
        del config["target_modules"]
    return with_other_config(good(), json.dumps(config).encode())


def _with_tensors(more: dict[str, Any], without: str | None = None) -> Expert:
    expert = good()
    state = {n: t for n, t in expert.state_dict().items() if without is None or without not in n}
    made = compress({**state, **more}, kind="lora", density=1.0)
    return with_other_config(made, expert.config)


def _damaged() -> Expert:
    """An expert whose bytes were changed after they were checked."""
    expert = good()
    expert.block[expert.block.size // 2 :] ^= 1
    return expert


EMBEDDING = torch.full((40, 16), 7.0)
FACTORS = {f"{PREFIX}model.layers.9.self_attn.q_proj.lora_{x}.weight" for x in "AB"}

FAULTS: dict[str, Callable[[], Expert]] = {
    "a key too many": lambda: _with_tensors({n: torch.ones(2, 2) for n in FACTORS}),
    "a key too many, and an embedding": lambda: _with_tensors(
        {n: torch.ones(2, 2) for n in FACTORS} | {f"{PREFIX}model.embed_tokens.weight": EMBEDDING}
    ),
    "a weight of the base": lambda: _with_tensors({f"{PREFIX}model.norm.weight": torch.ones(16)}),
    "a weight of an adapted layer": lambda: _with_tensors(
        {f"{PREFIX}model.layers.0.self_attn.q_proj.base_layer.weight": torch.ones(16, 16)}
    ),
    "an embedding of another size": lambda: _with_tensors(
        {f"{PREFIX}model.embed_tokens.weight": torch.ones(50, 16)}
    ),
    "two values for tied embeddings": lambda: _with_tensors(
        {
            f"{PREFIX}model.embed_tokens.weight": EMBEDDING,
            f"{PREFIX}lm_head.weight": EMBEDDING + 1,
        }
    ),
    "a key that lacks": lambda: _with_tensors({}, without="layers.1.self_attn.v_proj"),
    "a head that lacks": lambda: _with_config(modules_to_save=["norm"]),
    "another rank": lambda: _with_config(r=3),
    "a pattern of ranks": lambda: _with_config(rank_pattern={"q_proj": 5}),
    "rank 0": lambda: _with_config(r=0),
    "rank as text": lambda: _with_config(r="two"),
    "dropout 2": lambda: _with_config(lora_dropout=2.0),
    "no target": lambda: _with_config(target_modules=["no_such_module"]),
    "a target without weights": lambda: _with_config(target_modules=["self_attn"]),
    "more targets": lambda: _with_config(target_modules=["q_proj", "v_proj", "k_proj"]),
    "fewer targets": lambda: _with_config(target_modules=["q_proj"]),
    "a target that PEFT cannot adapt": lambda: _with_config(target_modules=["q_proj", "norm"]),
    "a broken expression": lambda: _with_config(target_modules="(q_proj"),
    "one layer": lambda: _with_config(layers_to_transform=[0]),
    "no layer": lambda: _with_config(layers_to_transform=[7]),
    "an excluded layer": lambda: _with_config(exclude_modules=["layers.0.self_attn.q_proj"]),
    "an unknown start": lambda: _with_config(init_lora_weights="no_such_start"),
    "PiSSA": lambda: _with_config(init_lora_weights="pissa"),
    "layers replicated": lambda: _with_config(layer_replication=[[0, 2], [0, 2]]),
    "layers replicated beyond the last": lambda: _with_config(layer_replication=[[0, 9]]),
    "DoRA without magnitudes": lambda: _with_config(use_dora=True),
    "biases that lack": lambda: _with_config(bias="all"),
    "bare parameters": lambda: _with_config(target_parameters=["weight"]),
    "tokens that lack": lambda: _with_config(trainable_token_indices=[1, 2]),
    "another kind": lambda: _of_kind("IA3", feedforward_modules=[]),
    "an unknown kind": lambda: _with_config(peft_type="NO_SUCH_KIND"),
    "a prompt": lambda: _of_kind("PROMPT_TUNING", num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "a broken config": lambda: with_other_config(good(), b"{"),
    "an empty config": lambda: with_other_config(good(), b"{}"),
    "damaged bytes": _damaged,
    "another model": lambda: compress(
        moved(peft.get_peft_model(t5(), lora(target_modules=["q"]))), density=0.5
    ),
}
"""For each fault, an expert with it, made from one that fits `llama()`."""


HARMLESS_IN_A_POOL = {
    *("a head that lacks", "dropout 2", "no target", "a target without weights", "one layer"),
    *("more targets", "fewer targets", "a target that PEFT cannot adapt", "no layer"),
    *("a broken expression", "an excluded layer", "an unknown start"),
}
"""Faults of a configuration alone that a second expert of a pool may have: its layers exist, and
the names of its tensors say which are adapted."""


def base_doors(model: Any) -> Iterator[tuple[str, Callable[[Expert], Any]]]:
    """Name, and a function that passes an adapter to a model without adapters, for each door."""
    yield "load_expert", lambda expert: load_expert(model, expert)
    yield "load_experts", lambda e: load_experts(model, {"a": good(), "b": e}, {"a": 0.5})
    yield "add_to_base", lambda expert: add_to_base(model, expert)
    yield "add_to_base of a merge", lambda expert: add_to_base(model, _vector(expert))
    yield "ExpertPool.add", lambda expert: ExpertPool(model).add("first", expert)
    yield "compose_fewshot", lambda e: compose_fewshot(model, [e], _never, max_steps=1)
    yield "tune_compression", lambda e: tune_compression(_vector(e), model, _never)


def doors() -> Iterator[tuple[str, Any, Callable[[Expert], Any]]]:
    """Name, model and function for each door, those of models with adapters too."""
    for i, (name, _) in enumerate(base_doors(None)):
        model = llama()
        if i % 2:  # states that are not the usual ones have to come back too
            model.requires_grad_(False).train()
        yield name, model, dict(base_doors(model))[name]
    full = ExpertPool(llama())
    full.add("good", good())
    yield "a second of a pool", full.model, lambda e: full.add(f"e{len(full.names)}", e)
    adapted = load_expert(llama(), good())
    yield "load_expert of a second", adapted, lambda expert: load_expert(adapted, expert, "other")
    several = load_experts(llama(), {"a": good(1), "b": good(2)})
    yield "load_experts into two", several, lambda e: load_experts(several, {"c": good(), "d": e})


def _never(model: Any) -> float:
    raise AssertionError("an expert that does not fit was scored")


def _vector(expert: Expert) -> Any:
    plain = task_vector(expert.state_dict(), kind=expert.manifest.kind)
    return replace(plain, config=expert.config)

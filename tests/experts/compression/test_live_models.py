"""A model in memory gives what its own way of saving writes, bit by bit, or a clear refusal."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, load_expert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

Saved = tuple[Any, Callable[[str], object], str]
"""A model, what saves it, and where in the folder its active adapter is then."""


def trained(model: Any) -> Any:
    """Random values in place of training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def linears() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.ReLU(), torch.nn.Linear(40, 24))


def llama(vocabulary: int = 40, **more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, **more,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def plain(**more: Any) -> Any:
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["0", "2"], **more)
    return trained(peft.get_peft_model(linears(), config))


def of_llama(**more: Any) -> Any:
    config = peft.LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"]} | more))
    return trained(peft.get_peft_model(llama(), config))


def with_adapter(*names: str) -> Any:
    model = llama()
    for name in names:
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        model.add_adapter(config, *([] if name == "default" else [name]))
    model.set_adapter(names[0])
    return trained(model)


def a_peft_model() -> Saved:
    return (model := plain()), model.save_pretrained, ""


def compiled() -> Saved:
    return (model := torch.compile(plain(), backend="eager")), model.save_pretrained, ""


def compiled_in_place() -> Saved:
    model = of_llama()
    model.compile(backend="eager")
    return model, model.save_pretrained, ""


def a_compiled_base() -> Saved:
    base = torch.compile(llama(), backend="eager")
    model = trained(peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"])))
    return model, model.save_pretrained, ""


def compiled_and_parallel() -> Saved:
    inside = of_llama()
    model = torch.compile(torch.nn.DataParallel(inside), backend="eager")
    return model, inside.save_pretrained, ""


def parallel_and_compiled() -> Saved:
    inside = torch.compile(of_llama(), backend="eager")
    return torch.nn.DataParallel(inside), inside.save_pretrained, ""


def of_accelerate() -> Saved:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.unwrap_model(accelerator.prepare(of_llama()))
    return model, model.save_pretrained, ""


def another_name() -> Saved:
    config = peft.LoraConfig(r=4, target_modules=["0"])
    model = trained(peft.get_peft_model(linears(), config, adapter_name="mine"))
    return model, model.save_pretrained, "mine"


def the_second_of_two() -> Saved:
    model = plain()
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["2"]))
    model.set_adapter("second")
    return trained(model), model.save_pretrained, "second"


def the_first_of_two() -> Saved:
    model = plain()
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["2"]))
    return trained(model), model.save_pretrained, ""


def a_module_trained_whole() -> Saved:
    return (model := of_llama(modules_to_save=["lm_head"])), model.save_pretrained, ""


def on_the_embedding() -> Saved:
    return (model := of_llama(target_modules=["embed_tokens", "q_proj"])), model.save_pretrained, ""


def a_task_type() -> Saved:
    return (model := of_llama(task_type="CAUSAL_LM")), model.save_pretrained, ""


def a_prompt() -> Saved:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    return (model := peft.get_peft_model(llama(), config)), model.save_pretrained, ""


def ia3_vectors() -> Saved:
    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    model = peft.get_peft_model(llama(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ia3" in name:
                parameter += torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape)
    return model, model.save_pretrained, ""


def of_transformers() -> Saved:
    return (model := with_adapter("default")), model.save_pretrained, ""


def of_transformers_by_name() -> Saved:
    return (model := with_adapter("mine", "other")), model.save_pretrained, ""


def of_transformers_compiled() -> Saved:
    model = torch.compile(with_adapter("default"), backend="eager")
    return model, model.save_pretrained, ""


def of_diffusers() -> Saved:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    model = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
        pooled_projection_dim=16, out_channels=4,
    )  # fmt: skip
    model.add_adapter(peft.LoraConfig(r=4, lora_alpha=16, target_modules=["to_q", "to_k"]))
    return trained(model), model.save_lora_adapter, ""


def of_diffusers_compiled() -> Saved:
    model, _, _ = of_diffusers()
    model = torch.compile(model, backend="eager")
    return model, model.save_lora_adapter, ""


def a_quantized_base() -> Saved:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    base = torch.nn.Sequential(bnb.nn.Linear4bit(64, 64, quant_type="nf4"), torch.nn.Linear(64, 8))
    base.to("cpu")
    config = peft.LoraConfig(r=2, target_modules=["0", "1"])
    return (model := trained(peft.get_peft_model(base, config))), model.save_pretrained, ""


MODELS = [
    a_peft_model, compiled, compiled_in_place, a_compiled_base, compiled_and_parallel,
    parallel_and_compiled, of_accelerate, another_name, the_second_of_two, the_first_of_two,
    a_module_trained_whole, on_the_embedding, a_task_type, a_prompt, ia3_vectors, of_transformers,
    of_transformers_by_name, of_transformers_compiled, of_diffusers, of_diffusers_compiled,
    a_quantized_base,
]  # fmt: skip


def state_of(model: Any) -> dict[str, bytes]:
    rows = {name: t.cpu().contiguous() for name, t in model.state_dict().items()}
    return {name: t.reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in rows.items()}


@pytest.mark.parametrize("made", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_model_gives_what_it_saves(tmp_path: Path, made: Callable[[], Saved]):
    model, save, where = made()
    inner = getattr(model, "_orig_mod", model)
    inner = getattr(inner, "module", inner)
    before = state_of(model)
    configs = {name: dict(vars(config)) for name, config in inner.peft_config.items()}
    of_base = dict(vars(inner.config)) if hasattr(getattr(inner, "config", 0), "__dict__") else None
    by_model = compress(model, density=0.3)
    assert state_of(model) == before
    assert {name: vars(config) for name, config in inner.peft_config.items()} == configs
    assert of_base is None or vars(inner.config) == of_base
    save(str(tmp_path))
    by_folder = compress(tmp_path / where, density=0.3)
    assert by_model.file.tobytes() == by_folder.file.tobytes()
    assert by_model.config == by_folder.config
    # A model may have modules that torch.compile wrapped, but not because it was compiled itself.
    compiled_inside = made is a_compiled_base
    assert any("_orig_mod" in name for name in by_model.arrays()) == compiled_inside
    assert by_model.trits()


def test_a_grown_vocabulary_is_part_of_the_adapter(tmp_path: Path):
    """PEFT saves the embeddings of a model whose vocabulary is not that of its base."""
    llama().save_pretrained(tmp_path / "base")
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(48)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expert = compress(model, density=0.3)
        model.save_pretrained(tmp_path / "adapter")
        assert expert.file.tobytes() == compress(tmp_path / "adapter", density=0.3).file.tobytes()
    shapes = {name: tensor.shape for name, tensor in expert.dense.items()}
    assert sorted(shapes.values()) == [(48, 16), (48, 16)]


def test_a_decompressed_compiled_model_is_read_by_peft(tmp_path: Path):
    """The names are those of the model without torch.compile, so that PEFT finds every tensor."""
    model = torch.compile(of_llama(), backend="eager")
    expert: Expert = compress(model, quantize="sign")
    from metro_fast.experts import decompress

    decompress(expert, tmp_path / "plain")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing.*")
        loaded = peft.PeftModel.from_pretrained(llama(), tmp_path / "plain")
    found = peft.get_peft_model_state_dict(loaded, save_embedding_layers=False)
    for name, array in expert.arrays().items():
        np.testing.assert_array_equal(found[name].numpy(), array)


def mixed() -> Any:
    config = peft.LoraConfig(r=2, target_modules=["0"])
    return peft.get_peft_model(linears(), config, mixed=True)


def two_active() -> Any:
    model = plain()
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["2"]))
    model.base_model.set_adapter(["default", "second"])
    return model


def two_active_in_transformers() -> Any:
    model = with_adapter("one", "two")
    model.set_adapter(["one", "two"])
    return model


def injected() -> Any:
    return peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["0"]), linears())


def emptied() -> Any:
    model = plain()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.empty(0)
    return model


def zero_3() -> Any:
    model = emptied()
    for parameter in model.parameters():
        parameter.ds_id = 1  # as DeepSpeed marks the parameters that it partitions
    return model


def offloaded() -> Any:
    model = plain()
    model.base_model.model[0].lora_A.default.to("meta")
    return model


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (mixed, "a PeftMixedModel cannot be saved"),
        (two_active, "adapters are default, second .*set_adapter"),
        (two_active_in_transformers, "adapters are one, two .*set_adapter"),
        (injected, "a Sequential has no save_pretrained"),
        (lambda: plain().base_model, "a LoraModel has no save_pretrained"),
        (lambda: of_llama().base_model, "a LoraModel has no save_pretrained"),
        (emptied, r"0\.lora_B\.weight is empty, .*gather them before save_pretrained"),
        (zero_3, r"0\.lora_B\.default\.weight is empty, a shard of DeepSpeed ZeRO-3: gather"),
        (offloaded, r"0\.lora_A\.default\.weight is a meta tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_models_that_cannot_save_one_adapter(made: Callable[[], Any], message: str):
    with pytest.raises(MetroFastError, match=message):
        compress(made())


def test_models_without_an_adapter_are_named():
    for model in (llama(), linears(), torch.compile(llama(), backend="eager")):
        kind = type(model).__name__
        with pytest.raises(TypeError, match=f"source is a {kind} without an adapter: give"):
            compress(model)


@pytest.fixture
def one_process(tmp_path: Path):
    distributed = torch.distributed
    distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_models_that_are_spread_over_processes(one_process: None, tmp_path: Path):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    inside = plain()
    model = torch.nn.parallel.DistributedDataParallel(inside)
    inside.save_pretrained(tmp_path / "saved")
    expert = compress(model)
    assert expert.file.tobytes() == compress(tmp_path / "saved").file.tobytes()
    for whole in (True, False):
        sharded = plain()
        for parameter in sharded.parameters():
            parameter.requires_grad_(True)
        if not whole:
            base = sharded.base_model.model
            base[0] = FullyShardedDataParallel(base[0], device_id=torch.device("cpu"))
        with pytest.raises(MetroFastError, match="is sharded by FSDP: gather the shards first"):
            compress(
                FullyShardedDataParallel(sharded, device_id=torch.device("cpu"))
                if whole
                else sharded
            )
    sharded = plain()
    fully_shard(sharded)
    with pytest.raises(MetroFastError, match=r"lora_A\.default\.weight is a DTensor, sharded"):
        compress(sharded)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_a_merged_embedding_is_not_counted_twice(target: str):
    """PEFT saves the weight of such a layer too, and a merged one holds the update already."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", target])
    model = trained(peft.get_peft_model(llama(), config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = compress(model, density=0.3).trits()
        model.merge_adapter()
        with pytest.raises(
            MetroFastError, match=rf"merged into the weight of \S+{target}, .*twice"
        ):
            compress(model, density=0.3)
        model.unmerge_adapter()
        found = compress(model, density=0.3).trits()
        assert all((found[name] == trits).all() for name, trits in expected.items())
    plain = trained(peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"])))
    expected = compress(plain, density=0.3).file.tobytes()
    plain.merge_adapter()
    assert compress(plain, density=0.3).file.tobytes() == expected


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_expert_of_a_compiled_base_says_why_it_does_not_fit():
    """Stock PEFT warns of missing keys and leaves the adapter at its start."""
    model, _, _ = a_compiled_base()
    expert = compress(model, density=0.3)
    assert any("_orig_mod" in name for name in expert.arrays())
    plain = llama()
    before = state_of(plain)
    with pytest.raises(MetroFastError, match=r"but has \S*_orig_mod\S*: one of .* was compiled"):
        load_expert(plain, expert)
    assert state_of(plain) == before

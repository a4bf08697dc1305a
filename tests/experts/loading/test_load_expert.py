"""experts.load_expert: bit-equal to stock PEFT on the decompressed folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import EXPERT_FILE, Expert, compress, decompress, load_expert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from model_state import ModelState
from strangers import with_other_config


def base(dtype=torch.float32, d_model: int = 32):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=100,
        d_model=d_model,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config).eval().to(dtype)


TASK = "SEQ_2_SEQ_LM"
CONFIGS = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q", "v"], task_type=TASK),
    "rslora": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        rank_pattern={"encoder.block.0.layer.0.SelfAttention.q": 2},
        alpha_pattern={"v": 3},
        target_modules=["q", "v"],
    ),
    "head": lambda: peft.LoraConfig(
        r=4, target_modules=["q"], modules_to_save=["final_layer_norm"], task_type=TASK
    ),
    "embedding": lambda: peft.LoraConfig(r=4, target_modules=["shared", "q"], task_type=TASK),
    "ia3": lambda: peft.IA3Config(
        target_modules=["k", "v", "wo"], feedforward_modules=["wo"], task_type=TASK
    ),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=5, task_type=TASK),
}


def trained(name: str, dtype=torch.float32):
    """An adapter in which every weight has moved."""
    model = peft.get_peft_model(base(dtype), CONFIGS[name]())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += (0.1 * noise).to(parameter.dtype)
    return model.eval()


def logits(model):
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 100, (2, 7), generator=generator)
    labels = torch.randint(1, 100, (2, 5), generator=generator)
    with torch.no_grad():
        return model(input_ids=ids, labels=labels).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_stock_peft_on_the_decompressed_folder(tmp_path, name, dtype):
    model = trained(name, dtype)
    model.save_pretrained(tmp_path / "original")
    expert = compress(tmp_path / "original", density=0.3)
    expert.save(tmp_path / "small")
    decompress(tmp_path / "small", tmp_path / "plain")
    stock = peft.PeftModel.from_pretrained(
        base(dtype), tmp_path / "plain", autocast_adapter_dtype=False
    )
    ours = load_expert(base(dtype), tmp_path / "small")
    assert type(ours) is type(stock)
    assert torch.equal(logits(ours), logits(stock))
    assert not torch.equal(logits(ours), logits(model))
    mine, theirs = ours.state_dict(), stock.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert [p.requires_grad for p in ours.parameters()] == [
        p.requires_grad for p in stock.parameters()
    ]
    assert ours.training is stock.training is False


def test_full_density_of_a_ternary_adapter_is_lossless(tmp_path: Path):
    model = trained("lora")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora" in key:
                parameter.copy_(torch.sign(parameter) * 0.25)
    expert = compress(model, density=1.0, alpha="least_squares")
    expert.save(tmp_path)
    assert torch.equal(logits(load_expert(base(), tmp_path)), logits(model))


def test_a_model_compresses_as_its_saved_folder_does(tmp_path: Path):
    model = trained("lora")
    model.save_pretrained(tmp_path)
    expert = compress(model)
    assert expert.file.tobytes() == compress(tmp_path).file.tobytes()
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    ours = json.loads(expert.config)
    assert sorted(saved.pop("target_modules")) == sorted(ours.pop("target_modules"))
    assert saved == ours
    assert not model.peft_config["default"].inference_mode


def test_a_second_expert_becomes_the_active_one(tmp_path: Path):
    first, second = trained("lora"), trained("rslora")
    model = load_expert(base(), compress(first, density=0.3), "first")
    alone = logits(model)
    both = load_expert(model, compress(second, density=0.3), "second")
    assert both is model
    assert both.active_adapter == "second"
    assert torch.equal(logits(both), logits(load_expert(base(), compress(second, density=0.3))))
    both.set_adapter("first")
    assert torch.equal(logits(both), alone)
    with pytest.raises(MetroFastError, match="adapter 'first' already"):
        load_expert(model, compress(first), "first")


def test_experts_that_do_not_fit_are_named(tmp_path: Path):
    expert = compress(trained("lora"), density=0.3)
    with pytest.raises(MetroFastError, match="no adapter_config"):
        load_expert(base(), Expert(expert.file))
    other = compress(trained("head"), density=0.3)
    with pytest.raises(MetroFastError, match=r"lacks .*lora_A"):
        load_expert(base(), with_other_config(other, expert.config))
    narrow = json.loads(expert.config) | {"target_modules": ["q"]}
    with pytest.raises(MetroFastError, match=r"no place for .*v\.lora_A"):
        load_expert(base(), with_other_config(expert, json.dumps(narrow).encode()))
    with pytest.raises(MetroFastError, match=r"has shape \(4, 32\), the model's \(4, 16\)"):
        load_expert(base(d_model=16), expert)
    with pytest.raises(FileNotFoundError):
        load_expert(base(), tmp_path)
    with pytest.raises(MetroFastError, match="is this that model"):
        load_expert(torch.nn.Sequential(torch.nn.Linear(2, 2)), expert)
    for name in ("", "a.b"):
        with pytest.raises(MetroFastError, match="adapter_name is"):
            load_expert(base(), expert, name)
    with pytest.raises(FormatError, match="not JSON"):
        load_expert(base(), with_other_config(expert, b"{"))
    with pytest.raises(MetroFastError, match="peft_type is MISSING"):
        load_expert(base(), with_other_config(expert, b"{}"))
    path = expert.save(tmp_path)
    assert path.name == EXPERT_FILE
    damaged = expert.file.copy()
    damaged[damaged.size // 2] ^= 1
    path.write_bytes(damaged.tobytes())
    with pytest.raises(FormatError):
        load_expert(base(), tmp_path)


@pytest.mark.parametrize("name", ["lora", "head", "embedding", "ia3", "prompt"])
def test_a_load_that_fails_leaves_the_model_unchanged(name: str):
    good = compress(trained(name), density=0.3)
    other = compress(trained("rslora" if name == "ia3" else "ia3"), density=0.3)
    wrong = with_other_config(other, good.config)
    plain = base()
    plain.shared.weight.requires_grad_(False)
    before, answer = ModelState(plain), logits(plain)
    with pytest.raises(MetroFastError, match=r"lacks|has shape"):
        load_expert(plain, wrong)
    assert before.differences(ModelState(plain)) == []
    assert torch.equal(logits(plain), answer)
    if name != "prompt":  # PEFT does not mix prompts with LoRA
        adapted = trained("rslora" if name != "ia3" else "ia3")
        before, answer = ModelState(adapted), logits(adapted)
        with pytest.raises(MetroFastError, match=r"lacks|has shape"):
            load_expert(adapted, wrong, "second")
        assert adapted.active_adapter == "default"
        assert list(adapted.peft_config) == ["default"]
        assert before.differences(ModelState(adapted)) == []
        assert torch.equal(logits(adapted), answer)
    assert torch.equal(logits(load_expert(plain, good)), logits(load_expert(base(), good)))


def test_a_file_that_claims_more_than_the_model_holds_is_not_decoded(monkeypatch):
    good = compress(trained("lora"), density=0.3)
    arrays = {**good.state_dict(), "base_model.model.extra.lora_A.weight": torch.zeros(9, 9999)}
    large = Expert(compress(arrays, density=0.3).file, good.config)
    monkeypatch.setattr(Expert, "state_dict", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(MetroFastError, match=r"no place for base_model\.model\.extra\.lora_A"):
        load_expert(base(d_model=32), large)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_adapters_of_a_changed_base_are_refused(start: str):
    config = peft.LoraConfig(r=2, target_modules=["q"], init_lora_weights=start)
    with pytest.raises(MetroFastError, match=f"init_lora_weights is '{start}'"):
        compress(peft.get_peft_model(base(), config))


def test_torch_tensors_of_state_dict_are_writable_copies():
    expert = compress(trained("lora"), density=0.3)
    first, second = expert.state_dict(), expert.state_dict()
    for tensor in first.values():
        tensor.zero_()
    assert any(tensor.any() for tensor in second.values())
    assert all(np.isfinite(array).all() for array in expert.arrays().values())

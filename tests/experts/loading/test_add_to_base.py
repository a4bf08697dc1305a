"""experts.add_to_base: equal to PEFT's own merge, and errors that leave the model unchanged."""

from pathlib import Path

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import add_to_base, compress, decompress, merge, save_plain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")


def t5(seed: int = 0):
    torch.manual_seed(seed)
    config = transformers.T5Config(
        vocab_size=120, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    return transformers.T5ForConditionalGeneration(config).eval()


def adapter(seed: int, config, dtype=torch.float32):
    adapted = peft.get_peft_model(t5().to(dtype), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = (parameter.data + 0.1 * noise).to(dtype)
    return compress(adapted, density=0.4)


LORA = {"r": 4, "target_modules": ["q", "wo"]}
IA3 = {"target_modules": ["k", "v", "wo"], "feedforward_modules": ["wo"]}
CONFIGS = {
    "lora": lambda: peft.LoraConfig(task_type="SEQ_2_SEQ_LM", **LORA),
    "ia3": lambda: peft.IA3Config(task_type="SEQ_2_SEQ_LM", **IA3),
}


def same(one, other) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_equals_pefts_merge_of_the_plain_folder(kind: str, tmp_path: Path):
    experts = [adapter(seed, CONFIGS[kind]()) for seed in (1, 2)]
    vector = merge(experts, method="task_arithmetic", weights=[0.5, -2.0])
    save_plain(vector, tmp_path / "merged")
    decompress(experts[0], tmp_path / "one")
    for source, folder in ((vector, "merged"), (experts[0], "one")):
        stock = peft.PeftModel.from_pretrained(
            t5(), tmp_path / folder, autocast_adapter_dtype=False
        )
        expected = stock.merge_and_unload()
        found = add_to_base(t5(), source)
        assert type(found) is type(expected)
        assert same(found, expected)
        assert not same(found, t5())


def test_a_full_residual_is_added():
    def tuned(seed: int):
        model = t5()
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
        return model.state_dict()

    start = t5().state_dict()
    experts = [compress(tuned(s), kind="full", initial=start, density=0.3) for s in (1, 2)]
    vector = merge(experts, method="task_arithmetic")
    found = add_to_base(t5(), vector).state_dict()
    one, two = (expert.state_dict(initial=start) for expert in experts)
    for name, tensor in found.items():
        expected = start[name] + (one[name] - start[name]) + (two[name] - start[name])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)
    assert same(add_to_base(t5(), experts[0]), add_to_base(t5(5), experts[0], initial=start)) is (
        set(one) == set(start)
    )
    other = t5(3)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(MetroFastError, match="not those that compress was given"):
        add_to_base(other, vector)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_an_expert_that_does_not_fit_leaves_the_model_unchanged():
    lora = merge([adapter(1, CONFIGS["lora"]())])

    def small():
        torch.manual_seed(0)
        config = transformers.T5Config(
            vocab_size=120, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4
        )
        return transformers.T5ForConditionalGeneration(config)

    def wide():
        torch.manual_seed(0)
        config = transformers.T5Config(
            vocab_size=120, d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=4
        )
        return transformers.T5ForConditionalGeneration(config)

    def other():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 4))

    for make, message in (
        (small, r"no place for .*block.1.*: the merge does not fit the model"),
        (wide, "does not fit the model"),
        (other, "does not fit the model"),
    ):
        model = make()
        with pytest.raises(MetroFastError, match=message):
            add_to_base(model, lora)
        fresh = make()
        assert same(model, fresh)
        assert [n for n, _ in model.named_modules()] == [n for n, _ in fresh.named_modules()]


def test_sums_beyond_the_dtype_are_refused():
    """The largest float16 is 65504; the sum exceeds it in the second adapted module."""
    expert = adapter(1, CONFIGS["lora"]())
    vector = merge([expert])
    last = sorted(vector.residuals)[-2:]
    for name in last:
        vector.residuals[name].values[...] = 4e3
    model = t5().to(torch.float16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(MetroFastError, match="a sum does not fit the model's dtype"):
        add_to_base(model, vector)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_experts_that_cannot_be_added_are_named():
    expert = adapter(1, CONFIGS["lora"]())
    adapted = peft.get_peft_model(t5(), CONFIGS["lora"]())
    with pytest.raises(MetroFastError, match="the model has adapters already"):
        add_to_base(adapted, expert)
    with pytest.raises(MetroFastError, match="compressed without initial values"):
        add_to_base(t5(), expert, initial={})
    quantized = t5()
    quantized.quantization_method = "bitsandbytes"
    with pytest.raises(MetroFastError, match="the model is quantized"):
        add_to_base(quantized, expert)
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4)
    prompt = compress(peft.get_peft_model(t5(), config), density=0.5)
    with pytest.raises(MetroFastError, match="no weight of the model can hold it"):
        add_to_base(t5(), prompt)
    with pytest.raises(FileNotFoundError):
        add_to_base(t5(), "no/such/folder")


@pytest.mark.filterwarnings("ignore:.*(has no bias|invalid shape):UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_bias_of_b_needs_a_bias_of_the_base():
    """PEFT loads such an adapter, but has no place for the sum (T5 has no biases)."""
    expert = adapter(1, peft.LoraConfig(r=4, target_modules=["q"], lora_bias=True))
    model = t5()
    with pytest.raises(MetroFastError, match=r"base layer has no bias.*use load_expert"):
        add_to_base(model, expert)
    assert same(model, t5())
    assert not hasattr(model, "peft_config")


def test_the_command_writes_a_whole_model(tmp_path: Path):
    from typer.testing import CliRunner

    from metro_fast.cli.expert_merge import app

    base = tmp_path / "base"
    t5().save_pretrained(base)
    folders = []
    for seed in (1, 2):
        adapter(seed, CONFIGS["lora"]()).save(tmp_path / str(seed))
        folders.append(str(tmp_path / str(seed)))
    target = tmp_path / "whole"
    options = ["--base", str(base), "--out", str(target)]
    done = CliRunner().invoke(app, [*folders, *options])
    assert done.exit_code == 0, (done.output, done.exception)
    loaded = transformers.T5ForConditionalGeneration.from_pretrained(target)
    assert same(loaded, add_to_base(t5(), merge(folders)))
    assert (target / "resolved_config.yaml").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"base", "whole", "1", "2"}
    done = CliRunner().invoke(app, [*folders, *options])
    assert "is not empty" in str(done.exception)
    done = CliRunner().invoke(app, [*folders, *options[:2], "--out", "x", "--density", "0.1"])
    assert "give only one" in str(done.exception)
    assert np.isfinite(next(loaded.parameters()).detach().numpy()).all()

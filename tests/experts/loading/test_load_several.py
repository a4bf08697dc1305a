"""experts.load_experts: the weighted updates of several experts."""

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import compress, load_expert, load_experts

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

X = torch.linspace(-1, 1, 40).reshape(1, 40)


def base():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(40, 30))


def expert(seed: int, config):
    adapted = peft.get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 0.5, generator=generator)
    return compress(adapted, density=0.4)


def loras():
    ranks = ({"r": 4, "lora_alpha": 8}, {"r": 2, "lora_alpha": 3, "use_rslora": True})
    configs = [peft.LoraConfig(target_modules=["0"], **options) for options in ranks]
    return {f"e{i}": expert(i, config) for i, config in enumerate(configs)}


def output(model):
    with torch.no_grad():
        return model(X)


def test_updates_of_any_rank_add_up():
    experts, weights = loras(), {"e0": -0.5, "e1": 2.0}
    plain = output(base())
    adds = {name: output(load_expert(base(), one)) - plain for name, one in experts.items()}
    found = output(load_experts(base(), experts, weights))
    expected = plain + sum(weights[name] * add for name, add in adds.items())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found = output(load_experts(base(), experts))
    torch.testing.assert_close(found, plain + sum(adds.values()), rtol=1e-5, atol=1e-5)


def test_ia3_vectors_multiply():
    config = peft.IA3Config(target_modules=["0"], feedforward_modules=[])
    experts = {f"e{i}": expert(i, config) for i in range(2)}
    vectors = [next(iter(one.arrays().values())).reshape(-1) for one in experts.values()]
    found = output(load_experts(base(), experts, {"e1": 0.5}))
    factor = vectors[0] * (1 + 0.5 * (vectors[1] - 1))
    expected = output(base()) * torch.from_numpy(factor.astype(np.float32))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_expert_that_does_not_fit_leaves_the_model_unchanged():
    experts = loras()
    ia3 = expert(0, peft.IA3Config(target_modules=["0"], feedforward_modules=[]))
    wide = torch.nn.Sequential(torch.nn.Linear(50, 30))
    other = peft.get_peft_model(wide, peft.LoraConfig(r=2, target_modules=["0"]))
    cases = [
        ({}, None, "no experts"),
        (experts, {"x": 1.0}, "a weight for 'x', but the experts are e0, e1"),
        (experts, {"e0": np.nan}, "the weight of 'e0' is nan"),
        (experts | {"ia3": ia3}, None, "expected all lora or all ia3"),
        (experts | {"wide": compress(other, density=0.5)}, None, "has shape"),
    ]
    for given, weights, message in cases:
        model = base()
        before = output(model)
        names = [name for name, _ in model.named_parameters()]
        with pytest.raises(MetroFastError, match=message):
            load_experts(model, given, weights)
        assert [name for name, _ in model.named_parameters()] == names
        assert torch.equal(output(model), before)


def test_a_weight_that_the_dtype_cannot_hold_leaves_the_model_unchanged():
    """The largest float16 is 65504."""
    model = base().to(torch.float16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(MetroFastError, match=r"the weight 1e\+06 of 'e0' makes .* torch.float16"):
        load_experts(model, loras(), {"e0": 1e6})
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

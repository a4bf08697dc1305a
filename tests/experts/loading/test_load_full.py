"""load_expert of a full residual: base plus residual, from a pristine base each time."""

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import compress, load_expert

torch = pytest.importorskip("torch")


def base(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 20)).to(dtype)


def finetuned(seed: int, dtype=torch.float32):
    model = base(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.05 * noise.to(dtype))
    return model


def expert(seed: int, dtype=torch.float32):
    start, end = base(dtype).state_dict(), finetuned(seed, dtype).state_dict()
    return compress(end, kind="full", initial=start, density=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_expert_starts_from_the_pristine_base(dtype):
    pristine = base(dtype).state_dict()
    model = base(dtype)
    for seed in (1, 2, 1):
        one = expert(seed, dtype)
        loaded = load_expert(model, one, initial=pristine)
        assert loaded is model
        expected = one.state_dict(initial=pristine)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
    fresh = load_expert(base(dtype), expert(1, dtype))
    assert all(
        torch.equal(a, b)
        for a, b in zip(fresh.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_an_expert_that_does_not_fit_leaves_the_model_unchanged():
    one = expert(1)

    class Few(torch.nn.Module):
        """A base of few bits under the same names."""

        def __init__(self) -> None:
            super().__init__()
            for name, tensor in base().state_dict().items():
                owner = self
                *path, last = name.split(".")
                for part in path:
                    if not hasattr(owner, part):
                        owner.add_module(part, torch.nn.Module())
                    owner = getattr(owner, part)
                codes = torch.nn.Parameter((10 * tensor).to(torch.int8), requires_grad=False)
                owner.register_parameter(last, codes)

    used = load_expert(base(), expert(2))
    cases = [
        (used, None, "not those that compress was given"),
        (Few(), None, "not quantized"),
        (torch.nn.Sequential(torch.nn.Linear(40, 30)), None, "has no 1.bias"),
        (torch.nn.Sequential(torch.nn.Linear(41, 30), torch.nn.Linear(30, 20)), None, "shape"),
    ]
    for model, initial, message in cases:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(MetroFastError, match=message):
            load_expert(model, one, initial=initial)
        after = model.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())

"""A LoRA that was compressed with `initial`: every door that takes initial values loads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import add_to_base, compress, decompress, load_expert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from model_state import ModelState


def base() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 12), torch.nn.Linear(12, 8))


def adapter(seed: int, start: Any = None) -> Any:
    model = peft.get_peft_model(base(), peft.LoraConfig(r=2, target_modules=["0", "1"]))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            old = 0 if start is None else start.get_parameter(name).data
            parameter.data = old + 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def outputs(model: Any) -> Any:
    x = torch.linspace(-1, 1, 64).reshape(4, 16)
    with torch.no_grad():
        return model(x)


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of one training."""
    first = adapter(1)
    first.save_pretrained(tmp_path / "first")
    adapter(2, first).save_pretrained(tmp_path / "last")
    return tmp_path / "first", tmp_path / "last"


@pytest.mark.parametrize("given", [lambda path: path, lambda path: str(path)])
def test_it_is_loaded_from_the_values_it_was_compressed_with(
    tmp_path: Path, checkpoints: tuple[Path, Path], given: Callable[[Path], Any]
) -> None:
    first, last = checkpoints
    expert = compress(last, initial=first, density=0.4)
    decompress(expert, tmp_path / "plain", initial=first)
    stock = peft.PeftModel.from_pretrained(base(), tmp_path / "plain")
    assert torch.equal(outputs(load_expert(base(), expert, initial=given(first))), outputs(stock))
    merged = stock.merge_and_unload()
    assert torch.equal(outputs(add_to_base(base(), expert, initial=given(first))), outputs(merged))
    vector = compress(last, initial=first, quantize="prune", density=1.0)
    whole = peft.PeftModel.from_pretrained(base(), last).merge_and_unload()
    found = outputs(add_to_base(base(), vector, initial=given(first)))
    torch.testing.assert_close(found, outputs(whole), atol=1e-6, rtol=0)


@pytest.mark.parametrize("door", [load_expert, add_to_base])
def test_values_that_are_not_those_leave_the_base_as_it_was(
    checkpoints: tuple[Path, Path], door: Callable[..., Any]
) -> None:
    first, last = checkpoints
    expert = compress(last, initial=first, density=0.4)
    for source, initial, message in [
        (expert, None, "pass initial="),
        (expert, last, "not those that compress was given"),
        (expert, {}, "pass initial="),
        (compress(last, density=0.4), first, "compressed without initial values: leave it out"),
    ]:
        model = base()
        before = ModelState(model)
        with pytest.raises(MetroFastError, match=message):
            door(model, source, initial=initial)
        assert not before.differences(ModelState(model))

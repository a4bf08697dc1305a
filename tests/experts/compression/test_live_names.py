"""States of models that nobody filtered: names with the adapter's name, and the base beside it."""

from pathlib import Path
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import ExpertPool, add_to_base, compress, decompress, load_expert, merge

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
safetensors_torch = pytest.importorskip("safetensors.torch")

CONFIG = {"r": 2, "lora_alpha": 8, "target_modules": ["0", "1"]}


def base() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Embedding(10, 16), torch.nn.Linear(16, 12), torch.nn.Linear(12, 8)
    )


def trained(*names: str) -> Any:
    model = peft.get_peft_model(base(), peft.LoraConfig(**CONFIG), adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, peft.LoraConfig(**CONFIG))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def live(model: Any, *, whole: bool = False) -> dict[str, Any]:
    return {n: t.clone() for n, t in model.state_dict().items() if whole or "lora_" in n}


def outputs(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(10))


def write(folder: Path, model: Any, state: dict[str, Any], file: str) -> Path:
    folder.mkdir()
    model.peft_config[model.active_adapter].save_pretrained(folder)
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        safetensors_torch.save_file(state, folder / file)
    return folder


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("name", ["default", "mine"])
def test_names_of_a_model_in_memory_are_read_as_peft_reads_them(
    tmp_path: Path, name: str, file: str
) -> None:
    model = trained(name)
    folder = write(tmp_path / "live", model, live(model), file)
    # PEFT reads such a file into an adapter of the same name.
    stock = peft.PeftModel.from_pretrained(base(), folder, adapter_name=name)
    assert torch.equal(outputs(stock), outputs(model))
    model.save_pretrained(tmp_path / "saved")
    saved = tmp_path / "saved" / ("" if name == "default" else name)
    for path in (folder, folder / file):
        expert = compress(path, density=0.4)
        assert expert.file.tobytes() == compress(saved, density=0.4).file.tobytes()
    decompress(expert, tmp_path / "plain")
    expected = outputs(peft.PeftModel.from_pretrained(base(), tmp_path / "plain"))
    assert not torch.equal(expected, outputs(base()))
    assert torch.equal(outputs(load_expert(base(), expert)), expected)
    pool = ExpertPool(base())
    pool.add("one", expert)
    assert torch.equal(outputs(pool.model), expected)
    for source in (expert, merge([expert])):
        torch.testing.assert_close(outputs(add_to_base(base(), source)), expected)


def test_a_file_of_two_adapters_is_refused(tmp_path: Path) -> None:
    model = trained("default", "other")
    folder = write(tmp_path / "live", model, live(model), "adapter_model.safetensors")
    with pytest.raises(MetroFastError, match=r"holds 2 adapters \(default, other\): save each"):
        compress(folder)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    model = trained("default")
    state = live(model) | peft.get_peft_model_state_dict(model)
    folder = write(tmp_path / "live", model, state, "adapter_model.safetensors")
    with pytest.raises(MetroFastError, match=r"lora_\w+\S* also without the adapter's name"):
        compress(folder)


def test_the_state_of_a_whole_model_is_not_its_adapter(tmp_path: Path) -> None:
    model = trained("default")
    state = live(model, whole=True)
    torch.save(state, tmp_path / "pytorch_model.bin")
    folder = write(tmp_path / "live", model, state, "adapter_model.safetensors")
    for source in (state, tmp_path / "pytorch_model.bin", folder):
        with pytest.raises(MetroFastError, match=r"base_layer\.weight is a weight of the base"):
            compress(source)
    assert compress(peft.get_peft_model_state_dict(model)).trits()


@pytest.mark.parametrize("lacking", ["0.lora_embedding_B", "1.lora_A.weight", "1.lora_B.weight"])
def test_a_factor_without_its_partner_is_named(tmp_path: Path, lacking: str) -> None:
    """Stock PEFT warns of it and leaves the missing factor at its start."""
    model = trained("default")
    state = peft.get_peft_model_state_dict(model)
    del state[f"base_model.model.{lacking}"]
    folder = write(tmp_path / "half", model, state, "adapter_model.safetensors")
    with pytest.raises(MetroFastError, match=rf"{lacking} is missing beside \S+, so the file"):
        compress(folder)

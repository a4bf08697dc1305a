"""The file named is the file read, whatever is beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import Expert, compress, decompress, fidelity, merge
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_file import read_state, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.search.summands import read_summand

torch = pytest.importorskip("torch")

CONFIG = json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}).encode()
A, B = "base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"
FILES = (
    "adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin",
    "other.safetensors", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin",
)  # fmt: skip


def state(seed: int) -> dict[str, RawTensor]:
    rng = np.random.default_rng(seed)
    shapes = {A: (4, 20), B: (30, 4)}
    return {
        name: RawTensor("F32", rng.standard_normal(shape).astype(np.float32))
        for name, shape in shapes.items()
    }


@pytest.fixture
def full_folder(tmp_path: Path) -> Path:
    """An adapter folder with every other file that may be beside it, each with its own values."""
    folder = tmp_path / "full"
    write_folder(folder, {}, CONFIG)
    for seed, name in enumerate(FILES):
        if name.endswith(".safetensors"):
            write_safetensors(folder / name, state(seed))
        else:
            torch.save({n: t.torch() for n, t in state(seed).items()}, folder / name)
    shards = {"weight_map": dict.fromkeys((A, B), "adapter_model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    compress({n: t.data for n, t in state(99).items()}).save(tmp_path / "expert")
    expert = tmp_path / "expert/adapter_model.compeft.safetensors"
    (folder / expert.name).write_bytes(expert.read_bytes())
    return folder


@pytest.mark.parametrize("seed", range(len(FILES)))
def test_each_file_is_read_by_its_name(full_folder: Path, seed: int):
    expected = compress({n: t.data for n, t in state(seed).items()}, density=0.3)
    path = full_folder / FILES[seed]
    expert = compress(path, density=0.3)
    assert {n: a.tobytes() for n, a in expert.arrays().items()} == {
        n: a.tobytes() for n, a in expected.arrays().items()
    }
    # The configuration is that of the adapter's own weights, in either format.
    assert (expert.config == CONFIG) == path.name.startswith("adapter_model")
    assert fidelity(path, expert)[0].cosine == pytest.approx(
        fidelity({n: t.data for n, t in state(seed).items()}, expected)[0].cosine
    )
    assert read_summand(path).residuals[A].values.tobytes() == state(seed)[A].bytes.tobytes()
    # As initial values: the residual of the same values is 0 everywhere.
    values = {n: t.data for n, t in state(seed).items()}
    zero = compress(values, initial=path)
    assert not any(trits.any() for trits in zero.trits().values())


def test_the_command_reads_the_file_it_names(full_folder: Path, tmp_path: Path):
    from typer.testing import CliRunner

    from metro_fast.cli.app import app

    for seed, name in enumerate(FILES):
        target = tmp_path / f"packed{seed}"
        values = {n: t.data for n, t in state(seed).items()}
        arguments = ["expert", "compress", str(full_folder / name), str(target)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert Expert.load(target).trits()[A].tobytes() == compress(values).trits()[A].tobytes()


def test_the_folder_gives_what_peft_takes(full_folder: Path):
    values = {n: t.data for n, t in state(0).items()}
    expected = compress(values, density=0.3).arrays()
    assert compress(full_folder, density=0.3).arrays()[A].tobytes() == expected[A].tobytes()
    (full_folder / "adapter_model.safetensors").unlink()
    second = compress({n: t.data for n, t in state(1).items()}, density=0.3).arrays()
    assert compress(full_folder, density=0.3).arrays()[A].tobytes() == second[A].tobytes()


def test_a_file_that_is_absent_is_not_replaced_by_another(full_folder: Path):
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        (full_folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"there is no .*{name}"):
            compress(full_folder / name)
    with pytest.raises(MetroFastError, match=r"a compressed expert already: use Expert\.load"):
        compress(full_folder)
    with pytest.raises(FileNotFoundError, match=r"there is no .*absent"):
        compress(full_folder / "absent")


def test_a_folder_that_is_called_like_a_file(full_folder: Path, tmp_path: Path):
    inner = full_folder / "deep/adapter_model.bin"
    write_folder(inner, state(50), CONFIG)
    (inner.parent / "adapter_config.json").write_bytes(CONFIG)
    write_safetensors(inner.parent / "adapter_model.safetensors", state(51))
    expected = compress({n: t.data for n, t in state(50).items()}).arrays()
    assert compress(inner).arrays()[A].tobytes() == expected[A].tobytes()


def test_an_expert_is_read_by_its_name(full_folder: Path, tmp_path: Path):
    """Two experts in one folder, of which the second has a name of its own."""
    second = full_folder / "second.safetensors"
    second.write_bytes(compress({n: t.data for n, t in state(7).items()}).file.tobytes())
    expected = compress({n: t.data for n, t in state(7).items()}).arrays()[A].tobytes()
    assert Expert.load(second).arrays()[A].tobytes() == expected
    decompress(second, tmp_path / "out.safetensors")
    assert read_state(tmp_path / "out.safetensors")[A].bytes.tobytes() == expected
    merged = merge([second])
    product = merged.residuals[B].values @ merged.residuals[A].values
    alone = Expert.load(second).arrays()
    np.testing.assert_allclose(product, 8 / 4 * alone[B] @ alone[A], rtol=1e-4, atol=1e-5)
    # Plain weights are not an expert, though one is beside them.
    with pytest.raises(FormatError, match=r"adapter_model\.safetensors.*not an expert"):
        Expert.load(full_folder / "adapter_model.safetensors")


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"])
def test_the_folder_of_diffusers(full_folder: Path, name: str):
    """Without an adapter_config.json, as `save_lora_adapter` writes it."""
    for file in full_folder.iterdir():
        if file.name != name:
            file.unlink()
    values = {n: t.data for n, t in state(FILES.index(name)).items()}
    assert compress(full_folder).file.tobytes() == compress(values).file.tobytes()

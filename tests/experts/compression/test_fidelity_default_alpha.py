"""The default alpha at every door, and the paper's alpha, whose bytes stay as they were."""

import hashlib
import importlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from metro_fast.experts import compress, compress_checkpoint, fidelity, task_vector
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.rescaled import Rescaled
from shared_files import shared_files

OPTIONS: list[dict[str, object]] = [
    {},
    {"density": 0.05, "scope": "tensor"},
    {"density": 0.5, "scope": "global"},
    {"density": 0.1, "profile": "size"},
    {"density": 0.3, "upstream": True},
]
DIGESTS = [
    "84ce7e8f5dec41d3",
    "fa0017fb034fcf08",
    "b2531b294d4d5db0",
    "c7b2f7ee916f3b65",
    "1e2a97d79c9c1eb2",
]


def lora() -> dict[str, np.ndarray]:
    """Factors whose entries are computed without a random generator."""
    count = np.arange(4 * 300, dtype=np.uint64)
    values = (count * 2654435761 % 2**24).astype(np.float32) / np.float32(2**24) - np.float32(0.5)
    cubes = values[::-1] * values[::-1] * values[::-1]
    return {
        "m.q.lora_A.weight": values.reshape(4, 300),
        "m.q.lora_B.weight": cubes.reshape(300, 4),
        "m.v.ia3": values[:7].copy(),
    }


def digest(expert: object) -> str:
    return hashlib.sha256(expert.file.tobytes()).hexdigest()[:16]  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:(the update of|group):UserWarning")
def test_files_of_alpha_1_are_the_bytes_of_the_version_before() -> None:
    """Digests of the default then, when alpha was 1 by default."""
    found = [digest(compress(lora(), **{"alpha": 1.0, **options})) for options in OPTIONS]
    assert found == DIGESTS


@pytest.mark.filterwarnings("ignore:(the update of|group):UserWarning")
@pytest.mark.parametrize("scope", ["role", "tensor", "global"])
def test_the_default_is_least_squares_at_every_door(scope: str, tmp_path: Path) -> None:
    state = lora()
    expected = digest(compress(state, alpha="least_squares", scope=scope))
    assert digest(compress(state, scope=scope)) == expected
    assert digest(compress(state, quantize="stc", scope=scope)) == expected
    assert digest(compress(task_vector(state), scope=scope)) == expected
    packed = Rescaled(task_vector(state), 0.2, scope=scope)
    assert digest(packed.at(None)) == digest(packed.at("least_squares")) == expected
    assert compress(state, scope=scope).manifest.alpha_rule == "least_squares"
    for name, by in (("base", 0.0), ("tuned", 1.0)):
        raw = {key: RawTensor.of(by * value, key) for key, value in state.items()}
        write_safetensors(tmp_path / f"{name}.safetensors", raw)
    tuned, base = tmp_path / "tuned.safetensors", tmp_path / "base.safetensors"
    streamed = compress_checkpoint(tuned, base, tmp_path / "out", scope=scope)
    whole = compress(tuned, kind="full", initial=base, alpha="least_squares", scope=scope)
    assert digest(streamed) == digest(whole)


def test_the_published_code_keeps_its_alpha() -> None:
    state = lora()
    assert digest(compress(state, upstream=True)) == digest(
        compress(state, upstream=True, alpha=1.0)
    )


def test_equal_entries_are_kept_by_default() -> None:
    """Their standard deviation is 0, so that any number of them erased the group."""
    same = {"w": np.full(8, 0.5, np.float32)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compress(same, kind="other", density=1).arrays()["w"].tolist() == [0.5] * 8
    with pytest.warns(UserWarning, match="all are equal"):
        expert = compress(same, kind="other", density=1, alpha=1.0)
    assert expert.estimated_fidelity[0].erased
    assert fidelity(same, expert)[0].erased


@pytest.mark.filterwarnings("ignore:(the update of|group):UserWarning")
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_the_default_is_the_scale_of_least_squared_error(density: float) -> None:
    """By definition: of scales around it, none is closer to the values of the group."""
    state = lora()
    expert = compress(state, density=density, scope="tensor")
    for tensor in expert.manifest.tensors:
        trits = expert.trits()[tensor.name].astype(np.float64)
        scale = float(expert.scales[tensor.group])
        errors = [
            float(((state[tensor.name] - by * scale * trits) ** 2).sum())
            for by in (0.9, 0.99, 1.0, 1.01, 1.1)
        ]
        assert min(errors) == errors[2]


@pytest.mark.parametrize("adapters", shared_files("adapters"))
def test_real_adapters_keep_their_length_by_default(adapters: Path) -> None:
    """The figures that the warning of the command separates: above and below one half."""
    found = {}
    for name, kind in (
        ("t0_3b_ia3_tfew/t03b_ia3_finish.pt", "ia3"),
        ("gpt2_tigrinya_lora", None),
        ("t5v11_base_prompts/sst2.npy", None),
    ):
        path = adapters / name
        lengths = [
            np.median(
                [row.norm_ratio for row in fidelity(path, compress(path, kind=kind, alpha=a))]
            )
            for a in (None, 1.0)
        ]
        found[name] = lengths
        assert lengths[1] < 0.5 < lengths[0], name
    assert found["gpt2_tigrinya_lora"] == pytest.approx([0.592, 0.189], abs=1e-3)


def test_the_page_of_the_default_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    benches = Path(__file__).parents[3] / "benches"
    monkeypatch.syspath_prepend(str(benches))
    tables = importlib.import_module("default_alpha_tables")
    result = json.loads((benches / "results/default_alpha.json").read_text("utf-8"))
    page = (benches / "results/default_alpha.md").read_text("utf-8")
    assert tables.markdown(result) == page, "stale: run python benches/default_alpha.py"
    rows = {row["expert"].partition(" (")[0]: row for row in tables.answer_rows(result)}
    kept = {name: float(row["effect kept"].rstrip("%")) for name, row in rows.items()}
    assert kept["none"] == 0
    assert kept["whole"] == 100
    # The claim of the decision: at each density least squares keeps more of an expert than alpha 1.
    for density in ("5%", "20%", "50%"):
        assert kept[f"{density}, alpha 1"] < kept[f"{density}, least squares"]

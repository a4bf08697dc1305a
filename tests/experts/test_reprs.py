"""The reprs of the classes around an expert: one short line each, without decoding anything."""

from pathlib import Path

import numpy as np
import pytest

from metro_fast.experts import Expert, ModuleFidelity, compress, task_vector
from metro_fast.experts.adapters.peft_folder import Adapter, write_folder
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.groups import Rule, ternarize_groups
from metro_fast.experts.compression.rescaled import Rescaled
from metro_fast.experts.file.expert_file import ExpertFile
from metro_fast.experts.file.manifest import layout
from metro_fast.experts.file.segments import segments_of

RNG = np.random.default_rng(4)
STATE = {
    f"m.{i}.lora_{factor}.weight": RNG.standard_normal(shape).astype(np.float32)
    for i in range(40)
    for factor, shape in (("A", (8, 64)), ("B", (64, 8)))
}
CONFIG = b'{"peft_type": "LORA", "base_model_name_or_path": "org/base"}'


@pytest.fixture(scope="module")
def vector():
    return task_vector(STATE)


def test_an_expert_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expert = compress(STATE, density=0.05)
    size = f"{expert.nbytes:,} bytes, {16 / expert.bits_per_parameter:.1f}x smaller than 16 bits)"
    assert repr(expert) == f"Expert(kind='lora', density=0.05, {size}"
    assert expert.ratio == 16 / expert.bits_per_parameter
    # The manifest knows the base, if the expert was made of a PEFT folder.
    raw = {name: RawTensor.of(array, name) for name, array in STATE.items()}
    write_folder(tmp_path / "adapter", raw, CONFIG)
    compress(tmp_path / "adapter", density=0.05).save(tmp_path / "packed")
    loaded = Expert.load(tmp_path / "packed")
    # A repr must be cheap: nothing is decoded for it.
    monkeypatch.setattr(Expert, "trits", lambda *_: pytest.fail("the repr decodes the expert"))
    monkeypatch.setattr(Expert, "raw", lambda *_: pytest.fail("the repr decodes the expert"))
    assert repr(loaded).startswith("Expert(kind='lora', base='org/base', density=0.05, ")
    assert repr(ExpertFile(loaded.file)).startswith("ExpertFile(kind='lora', base='org/base'")


def test_every_repr_is_one_short_line(vector):
    expert = compress(vector, density=0.2)
    starts, count = layout([r.values.size for r in vector.residuals.values()])
    trits = np.zeros(count, np.int8)
    groups = ternarize_groups(vector, "role", Rule(0.2, 1.0), starts, trits, 1)
    expected = {
        "TaskVector(kind='lora', 80 residuals with 40,960 entries, 0 dense tensors)": vector,
        "Residual(F32, shape=(8, 64), role='lora_A', initial='zero')": vector.residuals[
            "m.0.lora_A.weight"
        ],
        "Manifest(kind='lora', scope='role', 2 groups, 80 ternary and 0 dense tensors)": (
            expert.manifest
        ),
        "Segments(40,960 trits of 80 tensors, 80 decoded)": segments_of(
            expert.manifest, expert.scales
        ),
        "Groups(2 groups of 80 tensors, 0 lost)": groups,
        "RawTensor(F32, shape=(8, 64))": expert.raw()["m.0.lora_A.weight"],
        "Adapter(lora, 0 tensors)": Adapter({}, CONFIG, "lora"),
        "ModuleFidelity('m', cosine=0.100, norm_ratio=0.333, erased)": ModuleFidelity(
            "m", 0.1, 1 / 3
        ),
        "ModuleFidelity('m', cosine=0.900, norm_ratio=1.000)": ModuleFidelity("m", 0.9, 1.0),
    }
    for text, value in expected.items():
        assert repr(value) == text
    rescaled = repr(Rescaled(vector, 0.2))
    assert rescaled.startswith("Rescaled(TaskVector(kind='lora'")
    assert rescaled.endswith("density=0.2, scope='role')")

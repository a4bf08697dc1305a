"""experts.compress_checkpoint writes the bytes of compress with the memory of one tensor."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import Expert, compress, compress_checkpoint
from metro_fast.experts.adapters.checkpoint import read_places
from metro_fast.experts.adapters.state_file import read_state, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor

RNG = np.random.default_rng(7)


def tensor(shape: tuple[int, ...], dtype: str) -> RawTensor:
    return RawTensor.rounded(RNG.standard_normal(shape).astype(np.float32), dtype)


def moved(raw: RawTensor, by: float) -> RawTensor:
    change = np.float32(by) * RNG.standard_t(5, raw.shape).astype(np.float32)
    return RawTensor.rounded(np.asarray(raw.float32() + change), raw.dtype)


def write_shards(folder: Path, state: dict[str, RawTensor], count: int) -> Path:
    folder.mkdir()
    names = sorted(state)
    weight_map = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        write_safetensors(folder / file, {name: state[name] for name in names[i::count]})
        weight_map |= dict.fromkeys(names[i::count], file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    """Two models of all float dtypes: a tied head, a scalar, an empty tensor, a buffer, ties."""
    base = {
        f"layers.{i}.{name}.weight": tensor(shape, dtype)
        for i in range(3)
        for name, shape, dtype in (("q", (70, 513), "F32"), ("k", (300, 301), "BF16"),
                                   ("norm", (45,), "F16"))
    }  # fmt: skip
    base |= {"embed_tokens.weight": tensor((900, 40), "BF16"), "scale": tensor((), "F32")}
    base |= {"empty": RawTensor("F32", np.zeros((0, 3), np.float32))}
    tuned = {name: moved(raw, 0.02 * (1 + i)) for i, (name, raw) in enumerate(base.items())}
    for state in (base, tuned):
        state["lm_head.weight"] = state["embed_tokens.weight"]
        state["ids"] = RawTensor("I64", np.arange(9))
    tuned["new_head.bias"] = tensor((4,), "F32")
    return write_shards(tmp_path / "tuned", tuned, 3), write_shards(tmp_path / "base", base, 2)


@pytest.mark.parametrize("scope", ["role", "global", "tensor"])
@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": "least_squares", "density": 0.05}, {"quantize": "sign"}, {"density": 0.5}],
)
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
@pytest.mark.filterwarnings("ignore:group:UserWarning")
def test_the_bytes_are_those_of_compress(checkpoints, tmp_path: Path, scope, options):
    tuned, base = checkpoints
    dense = ["new_*", "*.norm.*"]
    seen: list[tuple[int, int]] = []
    expert = compress_checkpoint(
        tuned, base, tmp_path / "out", scope=scope, dense=dense, num_threads=2,
        progress=lambda done, total: seen.append((done, total)), **options,
    )  # fmt: skip
    state, initial = read_state(tuned), read_state(base)
    whole = compress(state, kind="full", initial=initial, scope=scope, dense=dense, **options)
    assert Expert.load(tmp_path / "out").file.tobytes() == whole.file.tobytes()
    assert expert.estimated_fidelity == whole.estimated_fidelity
    assert "embed_tokens.weight" in {t.name for t in expert.manifest.tensors}
    assert "lm_head.weight" not in {t.name for t in expert.manifest.tensors}
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    decoded = expert.raw(initial=initial)
    np.testing.assert_array_equal(
        decoded["lm_head.weight"].data, decoded["embed_tokens.weight"].data
    )


def test_an_unchanged_model_is_named_and_a_flat_one_is_lost(tmp_path: Path):
    base = {f"w{i}": tensor((20, 30), "F32") for i in range(2)}
    for name, state in (("base", base), ("tuned", {**base, "w1": moved(base["w1"], 0.1)})):
        write_safetensors(tmp_path / f"{name}.safetensors", state)
    arguments = (tmp_path / "tuned.safetensors", tmp_path / "base.safetensors", tmp_path / "out")
    expert = compress_checkpoint(*arguments, density=0.1)
    assert not expert.trits()["w0"].any()
    with pytest.warns(UserWarning, match="group full is erased"):
        compress_checkpoint(*arguments[:2], tmp_path / "none", density=1e-4)


def test_unsuitable_checkpoints_are_named_and_nothing_is_written(checkpoints, tmp_path: Path):
    tuned, base = checkpoints
    out = tmp_path / "out"
    for options, error, message in [
        ({}, MetroFastError, "base does not have new_head.bias"),
        ({"dense": ["other.*"]}, MetroFastError, "which matches no name"),
        ({"dense": "*"}, TypeError, "is the string"),
        ({"dense": ["*"]}, MetroFastError, "no float32, float16 or bfloat16"),
        ({"density": 0.0}, MetroFastError, "density is 0"),
        ({"alpha": -1.0}, MetroFastError, "alpha is -1"),
        ({"scope": "layer"}, MetroFastError, "scope is 'layer'"),
        ({"quantize": "prune"}, MetroFastError, "use compress"),
    ]:
        with pytest.raises(error, match=message):
            compress_checkpoint(tuned, base, out, **options)
    with pytest.raises(FileNotFoundError, match="there is no"):
        compress_checkpoint(tuned, tmp_path / "nowhere", out)
    state = {"w": RawTensor("F32", np.float32([[1, np.nan]]))}
    write_safetensors(tmp_path / "nan.safetensors", state)
    write_safetensors(tmp_path / "one.safetensors", {"w": RawTensor("F32", np.ones((1, 2), "f4"))})
    write_safetensors(
        tmp_path / "other.safetensors", {"w": RawTensor("F32", np.ones((2, 1), "f4"))}
    )
    with pytest.raises(MetroFastError, match="x is NaN at index 1 of w"):
        compress_checkpoint(tmp_path / "nan.safetensors", tmp_path / "one.safetensors", out)
    with pytest.raises(MetroFastError, match=r"base w has shape \(2, 1\), expected \(1, 2\)"):
        compress_checkpoint(tmp_path / "one.safetensors", tmp_path / "other.safetensors", out)
    assert not out.exists()


def test_damaged_headers_are_named(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"w": tensor((3, 5), "F32"), "v": tensor((2,), "F16")})
    whole = path.read_bytes()
    assert {name: place.shape for name, place in read_places(path).items()} == {
        "w": (3, 5),
        "v": (2,),
    }
    length = int.from_bytes(whole[:8], "little")
    damaged = [b"", whole[:7], whole[:-1], whole + b"x", whole[: 8 + length], b"\xff" * 40]
    damaged += [
        whole.replace(old, new)
        for old, new in ((b"[3,5]", b"[5,5]"), (b"[3,5]", b"[-15]"), (b"[3,5]", b"null "),
                         (b"[0,60]", b"[1,61]"), (b'"w"', b'"v"'), (b'"shape"', b'"shapf"'))
    ]  # fmt: skip
    for content in damaged:
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"model\.safetensors"):
            read_places(path)
    path.write_bytes(whole.replace(b'"F32"', b'"U32"'))
    with pytest.raises(TypeError, match="dtype U32"):
        read_places(path)
    path.write_bytes(whole.replace(b'"F32"', b'"F8_"'))
    with pytest.raises(FormatError, match=r"model\.safetensors: .*unknown variant `F8_`"):
        read_places(path)
    path.write_bytes(whole)
    place = read_places(path)["w"]
    path.write_bytes(whole[:-70])
    with pytest.raises(FormatError, match="ends within a tensor"):
        place.read()


MEMORY = """
import re, sys
import numpy as np
from metro_fast.experts import compress_checkpoint
# getrusage would report the largest size of the parent, which a child inherits.
rss = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = rss()
compress_checkpoint(*sys.argv[1:], density=0.05, num_threads=1)
print(rss() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
def test_memory_is_that_of_one_tensor(tmp_path: Path):
    """A residual of 96 MB in tensors of 4 MB each."""
    for name in ("base", "tuned"):
        state = {f"w{i:02}": tensor((1024, 1024), "F32") for i in range(24)}
        write_shards(tmp_path / name, state, 4)
    command = [sys.executable, "-c", MEMORY, *(str(tmp_path / n) for n in ("tuned", "base", "out"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1_000_000 < int(done.stdout) < 32_000_000

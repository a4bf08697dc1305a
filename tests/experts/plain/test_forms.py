"""decompress writes the form that an expert came from, and compress reads each of them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from front_door import call
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import compress, decompress

RNG = np.random.default_rng(4)
STATE = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in (("m.q.lora_down.weight", (4, 30)), ("m.q.lora_up.weight", (20, 4)))
}
PROMPT = RNG.standard_normal((5, 24)).astype(np.float16)


def read(path: Path) -> dict[str, np.ndarray]:
    """A file by the reader of the library that owns the form."""
    if path.suffix == ".npy":
        return {"prompt_embeddings": np.load(path)}
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return dict(archive)
    if path.suffix == ".safetensors":
        numpy = pytest.importorskip("safetensors.numpy")
        return numpy.load_file(path)
    torch = pytest.importorskip("torch")
    return {n: t.numpy() for n, t in torch.load(path, weights_only=True).items()}


def write(path: Path, state: dict[str, np.ndarray]) -> None:
    if path.suffix == ".npy":
        np.save(path, next(iter(state.values())))
    elif path.suffix == ".npz":
        np.savez(path, **state)
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy").save_file(state, path)
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz", "a.bin", "a.pt", "a.pth", "a.ckpt", "a.safetensors"]
)
def test_back_to_the_form_it_came_from(tmp_path: Path, name: str):
    state = {"prompt_embeddings": PROMPT} if name == "a.npy" else STATE
    write(tmp_path / name, state)
    line = ("expert", "compress", name, "packed", "--quiet")
    assert call(*line, folder=tmp_path).status == 0
    ended = call("expert", "decompress", "packed", f"back-{name}", folder=tmp_path)
    assert (ended.status, ended.stdout) == (0, f"wrote back-{name}\n")
    found, expected = read(tmp_path / f"back-{name}"), compress(state).arrays()
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)
    # A second time nothing is written over it.
    ended = call("expert", "decompress", "packed", f"back-{name}", folder=tmp_path)
    assert ended.status == 1
    assert f"back-{name} exists already" in ended.said


def test_a_form_that_cannot_hold_the_tensors_is_refused(tmp_path: Path):
    with pytest.raises(MetroFastError, match=r"can hold one array, and there are 2 tensors"):
        decompress(compress(STATE), tmp_path / "two.npy")
    torch = pytest.importorskip("torch")
    wide = {name: torch.from_numpy(array).bfloat16() for name, array in STATE.items()}
    for suffix in ("npy", "npz"):
        with pytest.raises(MetroFastError, match=r"has dtype BF16, which \.np[yz] files cannot"):
            decompress(compress(wide), tmp_path / f"a.{suffix}")
    with pytest.raises(MetroFastError, match=r"ends in \.safetensors, \.npy, \.npz, \.bin"):
        decompress(compress(STATE), tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def archive(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return file.getvalue()


def array(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An array as numpy writes it, with a header that may be wrong."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (b"PK\x03\x04" + bytes(40), "not a zip file"),
        (archive(("a.npy", b"no array")), "magic string"),
        (archive(("a.npy", array((10**12,)))), "does not fit the file"),
        (archive(("a.npy", array((2,), bytes(12)))), "others follow"),
        (archive(("a.npy", array((2,), bytes(4)))), "is 8 bytes"),
    ],
    # An archive holds the time, and the processes of a run need the same names.
    ids=["empty", "cut off", "not an array", "huge", "too long", "too short"],
)
def test_a_damaged_archive_is_a_format_error(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.npz is not an archive as numpy saves it") as error:
        compress(path)
    assert message in str(error.value)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="Python objects, which are refused"):
        compress(path)

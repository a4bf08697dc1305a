"""Every op with every odd kind of array: the result of a plain copy, or a named error."""

import contextlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.errors import MetroFastError

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(7)
TRITS = RNG.integers(-1, 2, 640).astype(np.int8)
PACKED = ops.pack(TRITS)
IDS = RNG.integers(10, 90, (4, 32))
MASK: dict[str, Any] = {"mask_token_id": 3, "vocab_size": 100, "special_token_ids": [0, 1, 2, 3]}
LOGITS = RNG.standard_normal((4, 32)).astype(np.float32)

# The argument that becomes odd, and the call with it in its place.
OPS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "pack": (TRITS, ops.pack),
    "unpack": (PACKED, lambda x: ops.unpack(x, 640)),
    "ternarize": (LOGITS, lambda x: ops.ternarize(x, density=0.2)),
    "sample_replacements": (LOGITS, ops.sample_replacements),
    "sample_replacements positions": (
        np.arange(4),
        lambda x: ops.sample_replacements(LOGITS, positions=x),
    ),
    "sample_replacements out": (
        np.zeros(4, np.int64),
        lambda x: ops.sample_replacements(LOGITS, out=x),
    ),
    "unpack out": (np.zeros(640, np.float32), lambda x: ops.unpack(PACKED, 640, out=x)),
    "corrupt_spans": (IDS, ops.corrupt_spans),
    "corrupt_spans offsets": (
        np.array([0, 60, 128]),
        lambda x: ops.corrupt_spans(IDS.reshape(-1), offsets=x),
    ),
    "corrupt_spans noise_mask": (
        np.arange(128).reshape(4, 32) % 5 == 1,
        lambda x: ops.corrupt_spans(IDS, noise_mask=x),
    ),
    "mask_tokens": (IDS, lambda x: ops.mask_tokens(x, **MASK)),
    "mask_tokens sample_ids": (
        np.arange(4),
        lambda x: ops.mask_tokens(IDS, sample_ids=x, **MASK),
    ),
    "vocabulary word_starts": (
        np.arange(100) % 3 == 0,
        lambda x: ops.corrupt_spans(IDS, vocabulary=ops.Vocabulary(word_starts=x)),
    ),
    "labels original": (IDS, lambda x: ops.replaced_token_labels(x, [5, 6], [1, 40])),
    "labels sampled": (np.array([5, 6]), lambda x: ops.replaced_token_labels(IDS, x, [1, 40])),
    "labels positions": (np.array([1, 40]), lambda x: ops.replaced_token_labels(IDS, [5, 6], x)),
    "labels out": (
        np.zeros_like(IDS),
        lambda x: ops.replaced_token_labels(
            IDS, [5, 6], [1, 40], out=(x, np.zeros(IDS.shape, np.int8))
        ),
    ),
}


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    odd = raw.view(array.dtype).reshape(array.shape)
    odd[...] = array
    return odd


def read_only(array: np.ndarray) -> np.ndarray:
    odd = array.copy()
    odd.flags.writeable = False
    return odd


def negated(array: np.ndarray) -> Any:
    tensor = torch.from_numpy(array.copy())
    if array.dtype != np.float32:
        return None
    odd = torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    assert odd.is_neg()
    return odd


def quantized(array: np.ndarray) -> Any:
    return torch.quantize_per_tensor(torch.from_numpy(array).float(), 0.5, 3, torch.quint8)


def fake(array: np.ndarray) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(torch.from_numpy(array.copy()))


class Wrapped(torch.Tensor):
    """A tensor whose own memory is not its values, as a DTensor is one."""

    @staticmethod
    def __new__(cls, values: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError


def requiring(array: np.ndarray) -> Any:
    tensor = torch.from_numpy(array.copy())
    return tensor.requires_grad_() if tensor.is_floating_point() else None


def structured(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, [("id", array.dtype)])


ODD: dict[str, Callable[[np.ndarray], Any]] = {
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "column-major": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "zero strides": lambda a: np.broadcast_to(a.reshape(-1)[0], a.shape),
    "unaligned": unaligned,
    "read-only": read_only,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "matrix": lambda a: a.view(np.matrix),
    "record array": lambda a: a.view(np.recarray),
    "masked": lambda a: np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) % 2 == 0),
    "object": lambda a: a.astype(object),
    "structured": structured,
    "no dimensions": lambda a: a.reshape(-1)[0].reshape(()),
    "text": lambda a: a.astype("U8"),
    "complex": lambda a: a.astype(np.complex64),
    "tensor": lambda a: torch.from_numpy(a.copy()),
    "tensor of strides": lambda a: torch.from_numpy(np.repeat(a, 2, axis=-1).copy())[..., ::2],
    "expanded tensor": lambda a: torch.from_numpy(a.reshape(-1)[:1].copy()).expand(a.shape),
    "negated tensor": negated,
    "conjugated tensor": lambda a: torch.from_numpy(a.astype(np.complex64)).conj(),
    "requiring gradients": requiring,
    "parameter": lambda a: torch.nn.Parameter(torch.from_numpy(a.copy()), requires_grad=False),
    "nested tensor": lambda a: torch.nested.nested_tensor([torch.from_numpy(a.copy())]),
    "jagged tensor": lambda a: torch.nested.nested_tensor(
        [torch.from_numpy(np.atleast_1d(a)).reshape(-1)] * 2, layout=torch.jagged
    ),
    "sparse tensor": lambda a: torch.from_numpy(a.copy()).to_sparse(),
    "quantized tensor": quantized,
    "fake tensor": fake,
    "meta tensor": lambda a: torch.from_numpy(a.copy()).to("meta"),
    "wrapped tensor": lambda a: Wrapped(torch.from_numpy(a.copy())),
}


def values(found: Any) -> list[np.ndarray]:
    """The arrays of a result, as numpy's."""
    parts = found if isinstance(found, tuple) else (found,)
    detached = [p.detach() if isinstance(p, torch.Tensor) else p for p in parts if p is not None]
    return [np.asarray(part) for part in detached]


def plain(odd: Any, like: np.ndarray) -> np.ndarray:
    """The values of an odd array in the plainest form."""
    if isinstance(odd, torch.Tensor):
        odd = odd.detach().resolve_conj().resolve_neg().numpy()
    return np.array(np.asarray(odd), dtype=like.dtype, order="C")


# Torch warns of nested and quantized tensors that it will change or remove.
@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning", "ignore:.*quant:UserWarning")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", ODD)
def test_the_result_is_that_of_a_plain_copy_or_the_error_has_a_name(op: str, kind: str):
    usual, call = OPS[op]
    odd = ODD[kind](usual)
    if odd is None:
        pytest.skip("this dtype has no such tensor")
    try:
        found = values(call(odd))
    except (TypeError, MetroFastError):
        return
    expected = values(call(plain(odd, usual)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)
    if op.endswith(" out"):
        np.testing.assert_array_equal(plain(odd, usual), expected[0])


REFUSED = (
    "masked",
    "object",
    "structured",
    "text",
    "nested tensor",
    "sparse tensor",
    "fake tensor",
    "meta tensor",
    "wrapped tensor",
)


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_values_of_its_own_is_always_refused(kind: str):
    for usual, call in OPS.values():
        with pytest.raises((TypeError, MetroFastError)):
            call(ODD[kind](usual))


def test_tensors_inside_a_transform_are_refused():
    logits = torch.from_numpy(LOGITS.copy())
    for transform in (torch.vmap, torch.func.grad):
        with pytest.raises(TypeError, match="logits is a tensor that cannot be read"):
            transform(lambda x: ops.sample_replacements(x).float().sum())(logits)


def test_a_negated_tensor_is_read_and_never_written():
    values_ = torch.from_numpy(LOGITS.copy())
    odd = torch.complex(torch.zeros_like(values_), -values_).conj().imag
    assert odd.is_neg()
    expected = ops.ternarize(LOGITS, density=0.2)
    np.testing.assert_array_equal(ops.ternarize(odd, density=0.2).trits.numpy(), expected.trits)
    out = torch.zeros(640, dtype=torch.complex64).conj().imag
    with pytest.raises(TypeError, match="out is a tensor that cannot be read or written"):
        ops.unpack(PACKED, 640, out=out)


def test_outputs_that_overlap_inputs_or_each_other_are_refused():
    memory = np.zeros(400, np.int64)
    ids = memory[:128].reshape(4, 32)
    ids[...] = IDS
    for out in ((ids, memory[200:328].reshape(4, 32)), (memory[200:328].reshape(4, 32),) * 2):
        with pytest.raises(MetroFastError, match="shares memory"):
            ops.mask_tokens(ids, out=out, **MASK)
    raw = np.zeros(4096, np.uint8)
    packed = raw[: PACKED.size]
    packed[...] = PACKED
    with pytest.raises(MetroFastError, match="shares memory"):
        ops.unpack(packed, 640, out=raw[: 640 * 4].view(np.float32))


def test_an_array_in_a_truncated_file_is_refused(tmp_path: Path):
    """Without the check the process ends with SIGBUS."""
    path = tmp_path / "ids"
    IDS.astype(np.int64).tofile(path)
    ids = np.memmap(path, np.int64, "r").reshape(4, 32)
    view = np.asarray(ids)[1:]
    assert values(ops.corrupt_spans(view))
    path.write_bytes(b"")
    for cut in (ids, view):
        with pytest.raises(MetroFastError, match="had 1024 bytes and now has 0: it was truncated"):
            ops.corrupt_spans(cut)
    # Memory that belongs to no file is not asked for one.
    shared = mmap.mmap(-1, 1024)
    assert values(ops.corrupt_spans(np.frombuffer(shared, np.int64).reshape(4, 32) + 10))


CHANGING: dict[str, tuple[Any, Callable[[Any], Any], tuple[int, ...]]] = {
    "offsets": (
        np.arange(0, 1281, 10),
        lambda x: ops.corrupt_spans(np.full(1280, 9), offsets=x, num_threads=1),
        (-5, 1 << 40),
    ),
    "positions": (
        np.arange(4000),
        lambda x: ops.replaced_token_labels(np.full(4000, 9), np.full(4000, 5), x),
        (-5, 1 << 40),
    ),
    "ids": (np.full((64, 64), 9), lambda x: ops.mask_tokens(x, **MASK), (-5, 1 << 40)),
    "logits": (LOGITS.repeat(8, 0), ops.sample_replacements, (1 << 30, -(1 << 30))),
    "packed": (
        ops.pack(RNG.integers(-1, 2, 30_000).astype(np.int8), coding="bitmask", steps=512),
        lambda x: ops.unpack(x, 30_000),
        (255, 0),
    ),
}


@pytest.mark.parametrize("name", CHANGING)
def test_an_input_that_another_thread_changes_gives_a_result_or_a_named_error(name: str):
    usual, call, others = CHANGING[name]
    array = usual.copy()
    flat, whole = array.reshape(-1), usual.reshape(-1)
    done = threading.Event()

    def change() -> None:
        place = 0
        while not done.is_set():
            place = (place * 5 + 7) % flat.size
            for other in others:
                flat[place] = other
            flat[place] = whole[place]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(150):
            with contextlib.suppress(MetroFastError, TypeError):
                call(array)
    finally:
        done.set()
        thread.join()
    array[...] = usual
    call(array)

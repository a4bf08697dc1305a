"""Experts whose weighted sums are computed repeatedly, packed or as they were trained."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import constant_of
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.compression.compress import read_vector
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.file.manifest import layout
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.merging.fits import (
    Source,
    alphas,
    check_configs,
    check_kinds,
    check_layouts,
    check_scalings,
    check_updates,
    kind_of_source,
    layout_of,
)
from metro_fast.experts.merging.members import Members
from metro_fast.experts.merging.weighted_sum import SEARCH_EXPERTS, weighted_sum


def read_summand(source: Any) -> Source:
    """A compressed expert unchanged, or anything else that `compress` takes as a task vector.

    Raises:
        TypeError: If the source is neither.
        MetroFastError: If it cannot be read as an adapter.
    """
    if isinstance(source, Expert | TaskVector):
        return source
    if isinstance(source, str | Path):
        path = resolve_expert(source)
        if path.name == EXPERT_FILE or (path / EXPERT_FILE).exists():
            return Expert.load(path)
    return read_vector(source)


class Summands:
    """LoRA or IA3 experts of one base and one layout.

    Compressed experts are held as two planes of bits, others as float32. The value of an IA3
    vector is what it adds to 1.

    Args:
        names: Names of the experts.
        sources: The experts, as `read_summand` returns them.
        num_threads: Threads to use; the machine's cores by default.

    Attributes:
        names: Names of the experts.
        starts: The first entry of each tensor in `flat`, by name.
        shapes: The shape of each tensor, by name.
        flat: float32, the last sum.
        config: The bytes of the first adapter_config.json.

    Raises:
        MetroFastError: If they do not fit each other; the message names the expert and the tensor.

    Example:
        >>> from metro_fast.experts import compress
        >>> plain = {"m.ia3_l": np.float32([1.5, 1.0])}
        >>> both = Summands(["a", "b"], [compress(plain, density=0.5), read_summand(plain)])
        >>> both.add(np.array([0.0, 2.0]))
        >>> both.tensor("m.ia3_l").tolist()
        [2.0, 1.0]
    """

    def __init__(
        self, names: Sequence[str], sources: Sequence[Source], num_threads: int | None = None
    ) -> None:
        if not sources:
            raise MetroFastError("no experts are given, expected at least one")
        _check(dict(zip(names, sources, strict=True)))
        self.names = tuple(names)
        self._layout = layout_of(sources[0])
        self._dtypes = _dtypes_of(sources[0])
        self.shapes = {name: tensor.shape for name, tensor in self._layout.items()}
        self.config = sources[0].config
        self._kind = kind_of_source(sources[0])
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        starts, count = layout(sizes)
        self.starts = dict(zip(self.shapes, starts, strict=True))
        self.flat = np.zeros(count, np.float32)
        self._part = np.zeros(0, np.float32)
        self._packed_at = [i for i, s in enumerate(sources) if isinstance(s, Expert)]
        packed = {n: s for n, s in zip(names, sources, strict=True) if isinstance(s, Expert)}
        self._packed = Members(packed, num_threads) if packed else None
        self._plain = {
            i: self._flat_of(s) for i, s in enumerate(sources) if isinstance(s, TaskVector)
        }

    def add(self, weights: NDArray[np.float64]) -> None:
        """Write the weighted sum into `flat`, initial values included.

        Args:
            weights: float64 [experts].
        """
        if self._packed is None:
            self.flat[:] = 0
        else:
            weighted_sum(self._packed, weights[self._packed_at], self.flat, at_once=SEARCH_EXPERTS)
        if self._plain and not len(self._part):
            self._part = np.empty_like(self.flat)
        for i, values in self._plain.items():
            np.multiply(values, np.float32(weights[i]), out=self._part)
            np.add(self.flat, self._part, out=self.flat)
        for name, tensor in self._layout.items():
            if constant_of(tensor.initial) != 0:
                self.tensor(name)[...] += constant_of(tensor.initial)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A view of one tensor of the last sum."""
        shape, start = self.shapes[name], self.starts[name]
        return self.flat[start : start + int(np.prod(shape))].reshape(shape)

    def vector(self) -> TaskVector:
        """A task vector of the last sum, with the first expert's dtypes and configuration."""
        residuals = {}
        for name, tensor in self._layout.items():
            values = self.tensor(name) - constant_of(tensor.initial)
            role = role_of(name) or self._kind
            residuals[name] = Residual(values, self._dtypes[name], role, tensor.initial)
        return TaskVector(self._kind, residuals, {}, None, self.config)

    @property
    def nbytes(self) -> int:
        """Bytes in which the experts are held, without the sum."""
        packed = self._packed.planes if self._packed is not None else []
        planes = sum(plane.nbytes for planes in packed for plane in planes)
        return planes + sum(values.nbytes for values in self._plain.values())

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the same experts as float32 state dicts."""
        return 4 * len(self.names) * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def _flat_of(self, vector: TaskVector) -> NDArray[np.float32]:
        flat = np.zeros_like(self.flat)
        for name, start in self.starts.items():
            values = vector.residuals[name].values.reshape(-1)
            flat[start : start + values.size] = values
        return flat


def _check(experts: Mapping[str, Source]) -> None:
    """Check that experts can be summed, tensor by tensor."""
    check_kinds(experts)
    for name, source in experts.items():
        alpha = next(iter(alphas(source)), None)
        if alpha is not None:
            raise MetroFastError(
                f"expert {name} has the tensor {alpha}, which scales its update, but a model's "
                "adapter has its scaling from adapter_config.json: compose PEFT adapters"
            )
        if source.dense:
            raise MetroFastError(
                f"expert {name} has the dense tensor {next(iter(source.dense))} (a head, or a "
                "module that was trained as a whole), which cannot be part of a weighted sum: "
                "compose adapters without such modules"
            )
        given = next((n for n, t in layout_of(source).items() if t.initial == "given"), None)
        if given is not None:
            raise MetroFastError(
                f"expert {name} was compressed with initial= ({given}), which sums do not "
                "support: compress it without"
            )
    check_configs(experts)
    check_updates(experts)
    check_layouts(experts)
    check_scalings(experts, "A and B cannot be summed as they are, but merge() can add updates")


def _dtypes_of(source: Source) -> dict[str, str]:
    if isinstance(source, Expert):
        return {tensor.name: tensor.dtype for tensor in source.manifest.tensors}
    return {name: residual.dtype for name, residual in source.residuals.items()}


def checksum(source: Source) -> int:
    """A checksum of everything in an expert that a search depends on, for the search's file."""
    if isinstance(source, Expert):
        return _core.crc32c(source.file)
    total = zlib.crc32(source.config or b"")
    tensors = {name: residual.values for name, residual in source.residuals.items()}
    for name, values in (tensors | {n: t.bytes for n, t in source.dense.items()}).items():
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        total = _core.crc32c(data, zlib.crc32(name.encode(), total))
    return total

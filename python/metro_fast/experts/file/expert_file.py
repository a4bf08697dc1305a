"""The file of a compressed expert: its checked bytes, and the tensors that they decode to."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.config_checksum import config_checksum
from metro_fast.experts.adapters.initial import read_same_given
from metro_fast.experts.adapters.peft_folder import CONFIG
from metro_fast.experts.adapters.tensors import RawTensor, dtype_name
from metro_fast.experts.adapters.tied import tied_groups
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.file.decode import decode_file
from metro_fast.experts.file.describe import TensorRow, describe_tensors
from metro_fast.experts.file.manifest import TernaryTensor
from metro_fast.experts.file.save import save_expert
from metro_fast.experts.file.segments import NATIVE, segments_of
from metro_fast.experts.file.sized import Sized
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

if TYPE_CHECKING:
    import torch


class ExpertFile(Sized):
    """The bytes of an expert file (docs/expert-format.md), checked, and decoded when asked.

    This class knows nothing of paths to read from or of the Hub; `Expert` adds both.

    Attributes:
        file: uint8, the bytes of the file.
        manifest: Names, shapes, groups and origin.
        scales: float32 [groups].
        config: The bytes of adapter_config.json, or None if it is not a PEFT adapter.
        block: uint8, the packed trits of all tensors, a view of the file.
        dense: The tensors that are kept whole, by name.
        max_decoded_bytes: Most bytes that a call may decode to; None stands for
            METRO_FAST_MAX_DECODED_BYTES, and without it for the free memory.
        estimated_fidelity: One row per module with an estimate of how well its update is kept,
            for an expert that was made in this process (see `estimate_updates`; `fidelity`
            computes it exactly); else ().

    Args:
        file: uint8, the bytes of an expert file.
        config: The bytes of adapter_config.json.
        max_decoded_bytes: See the attribute.

    Raises:
        FormatError: If the bytes are not a whole, undamaged expert file, or the configuration is
            not the one that the expert was made with.

    Example:
        >>> from metro_fast.experts import compress
        >>> weights = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
        >>> expert = compress({"layer.weight": weights}, kind="other", density=0.05)
        >>> ExpertFile(expert.file).arrays()["layer.weight"].shape
        (64, 512)
    """

    def __init__(
        self, file: NDArray[np.uint8], config: bytes | None = None, *,
        max_decoded_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self.file, self.config, self.max_decoded_bytes = file, config, max_decoded_bytes
        self.manifest, self.scales, self.block, dense = decode_file(file)
        self._check_config()
        self.estimated_fidelity: tuple[ModuleFidelity, ...] = ()
        self.dense = {
            entry.name: RawTensor.from_bytes(entry.dtype, entry.shape, file[slice(*place)])
            for entry, place in zip(self.manifest.dense, dense, strict=True)
        }

    def __repr__(self) -> str:
        manifest = self.manifest
        origin = "" if manifest.base.model is None else f", base={shown(repr(manifest.base.model))}"
        densities = sorted({group.density for group in manifest.groups})
        density = " to ".join(f"{density:g}" for density in (*densities[:1], *densities[1:][-1:]))
        return (
            f"{type(self).__name__}(kind={manifest.kind!r}{origin}, density={density or None}, "
            f"{self.nbytes:,} bytes, {self.ratio:.1f}x smaller than 16 bits)"
        )

    def with_config(self, config: bytes) -> Self:
        """The same weights with another adapter_config.json, whose checksum the file then has.

        Args:
            config: The bytes of the configuration.

        Raises:
            FormatError: If it is not a configuration.

        Example:
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5)
            >>> expert.with_config(b'{"peft_type": "LORA", "r": 4}').manifest.version
            3
        """
        manifest = replace(self.manifest, config_crc32c=config_checksum(config))
        file = _core.encode_expert(
            manifest.to_json(),
            self.scales,
            self.block,
            [tensor.bytes for tensor in self.dense.values()],
        )
        return type(self)(file, config)

    def _check_config(self) -> None:
        recorded = self.manifest.config_crc32c
        if self.config is None or recorded is None:
            return
        found = config_checksum(self.config)
        if found != recorded:
            raise FormatError(
                f"{CONFIG} is not the one that the expert was made with: the checksum of its "
                f"settings is {found:08x}, in the weights file {recorded:08x}. Put the old one "
                "back; or, if the change is meant, record it with "
                "Expert.load(folder, new_config=True).save(folder)"
            )

    def save(self, folder: str | Path) -> Path:
        """Write the expert's adapter_config.json and its weights.

        A new folder appears whole or not at all, even if the process dies. In one that is there
        already each file is whole, and the weights come last: if they exist, so does their
        configuration.

        Args:
            folder: It is made if it does not exist; other files in it stay.

        Returns:
            The path of the weights file.

        Raises:
            MetroFastError: If the folder holds a plain adapter, which stock PEFT would load
                instead, or the configuration of another adapter; if the path is empty; or if
                another process writes to the folder.
            OSError: If the folder cannot be written to.
        """
        return self.save_beside(folder, None)

    def save_beside(self, folder: str | Path, more: Callable[[Path], object] | None) -> Path:
        """Save the expert and, as one with it, what a function writes.

        Args:
            folder: As for `save`.
            more: Called with a folder, to which it writes more files; or None.

        Returns:
            The path of the weights file.

        Raises:
            MetroFastError: As for `save`.
            OSError: If the folder cannot be written to.
        """
        return save_expert(self.file, self.config, folder, more)

    def raw(
        self,
        dtype: Any = None,
        *,
        initial: Mapping[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> dict[str, RawTensor]:
        """Decode every tensor, in the manifest's dtypes or in one float dtype.

        Dense tensors keep their dtype. Arguments and errors are those of `arrays`.

        Returns:
            Elements with their dtype, by name, which `arrays` and `state_dict` convert.

        Example:
            >>> from metro_fast.experts import compress
            >>> compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5).raw()
            {'w': RawTensor(F32, shape=(1, 2))}
        """
        target = None if dtype is None else dtype_name(dtype)
        threads = resolve_threads(num_threads, self.manifest.trits, CHUNK)
        shapes = {t.name: t.shape for t in self.manifest.tensors if t.initial == "given"}
        if initial is not None and not shapes:
            raise MetroFastError(
                "initial is given, but this expert was made without it: leave it out"
            )
        checksum = self.manifest.base.initial_crc32c
        given = read_same_given(initial, shapes, checksum, "this expert")
        # Each dtype, and given tensors, have a sequence of all trits of their own.
        kinds = {(target or t.dtype, t.initial == "given") for t in self.manifest.tensors}
        widths = [4 if kind == "F32" or given else 2 for kind, given in kinds]
        self.check_size(sum(widths), "decoding the expert")
        tensors: dict[str, RawTensor] = {}
        for name in sorted({target or tensor.dtype for tensor in self.manifest.tensors}):
            chosen = [t for t in self.manifest.tensors if (target or t.dtype) == name]
            tensors |= self._decode([t for t in chosen if t.initial != "given"], name, threads)
            if given:
                decoded = self._decode([t for t in chosen if t.initial == "given"], "F32", threads)
                for key, residual in decoded.items():
                    tensors[key] = RawTensor.rounded(np.asarray(given[key] + residual.data), name)
        for group in tied_groups(initial) if initial is not None else []:
            # A tied matrix is in the file under one name; the base knows the others.
            kept = [name for name in group if name in tensors]
            if len(kept) == 1:
                tensors |= {name: tensors[kept[0]] for name in group if name not in self.dense}
        return {name: tensors[name] for name in sorted(tensors)} | self.dense

    def arrays(
        self,
        dtype: Any = None,
        *,
        initial: Mapping[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Decode into numpy arrays.

        Args:
            dtype: float32, float16 or bfloat16 for all ternary tensors; their own by default.
            initial: The initial values that were given to `compress`, if any were. Names that are
                tied in them share one tensor in the result.
            num_threads: Threads to use; the machine's cores by default.

        Returns:
            Arrays by name; bfloat16 values become float32, since numpy lacks bfloat16.

        Raises:
            FormatError: If a stream is damaged.
            MetroFastError: If initial values are missing, or are not those given to `compress`.

        Example:
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5)
            >>> expert.arrays(np.float16)["w"].dtype
            dtype('float16')
        """
        tensors = self.raw(dtype, initial=initial, num_threads=num_threads)
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def state_dict(
        self,
        dtype: Any = None,
        *,
        initial: Mapping[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> "dict[str, torch.Tensor]":
        """Decode into torch tensors on the CPU; arguments and errors are those of `arrays`.

        Returns:
            Tensors by name, each in its own dtype or in `dtype`; the caller may change them.

        Example:
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -3]])}, kind="other", quantize="sign")
            >>> expert.state_dict()
            {'w': tensor([[ 2., -2.]])}
        """
        tensors = self.raw(dtype, initial=initial, num_threads=num_threads)
        return {name: tensor.torch() for name, tensor in tensors.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """The text beside the source's tensors, see `StateDict`; nothing relies on it."""
        return self.manifest.metadata

    @property
    def steps(self) -> int:
        """The S of docs/expert-format.md, 4.1: each stream codes 64 S trits."""
        return _core.block_info(self.block)[2]

    def trits(self, num_threads: int | None = None) -> dict[str, NDArray[np.int8]]:
        """The trits of each ternary tensor.

        Args:
            num_threads: Threads to use; the machine's cores by default.

        Returns:
            int8 arrays of the tensors' shapes, each entry -1, 0 or 1, by name.

        Raises:
            FormatError: If a stream is damaged.

        Example:
            >>> from metro_fast.experts import compress
            >>> compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5).trits()["w"]
            array([[ 0, -1]], dtype=int8)
        """
        self.check_size(1, "decoding the trits of the expert")
        flat = np.empty(self.manifest.trits, np.int8)
        threads = resolve_threads(num_threads, self.manifest.trits, CHUNK)
        _core.unpack(self.block, 1.0, "i8", flat, threads)
        return {
            t.name: flat[t.start : t.start + t.size].reshape(t.shape) for t in self.manifest.tensors
        }

    def describe(self) -> list[TensorRow]:
        """Describe each tensor, as `metro-fast expert inspect` shows it.

        Raises:
            FormatError: If a stream is damaged.

        Example:
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5)
            >>> row = expert.describe()[0]
            >>> row["tensor"], row["density"], row["bits"]
            ('w', 0.5, 1.5)
        """
        return describe_tensors(self.manifest, self.scales, self.trits(), self.dense)

    def verify(self) -> None:
        """Decode everything as a check, including the zeros between tensors.

        Raises:
            FormatError: If a stream is damaged.
        """
        self.check_size(2, "decoding the expert")
        self._decode(
            list(self.manifest.tensors), "BF16", resolve_threads(None, self.manifest.trits, CHUNK)
        )

    def _decode(
        self, chosen: list[TernaryTensor], dtype: str, threads: int
    ) -> dict[str, RawTensor]:
        if not chosen:
            return {}
        names = {tensor.name for tensor in chosen}
        segments = segments_of(self.manifest, self.scales, write=lambda t: t.name in names)
        flat = np.empty(self.manifest.trits, NATIVE[dtype][1])
        segments.expand(self.block, dtype, flat, threads)
        bits = flat if dtype == "BF16" else flat.view(np.float16 if dtype == "F16" else np.float32)
        return {
            t.name: RawTensor(dtype, bits[t.start : t.start + t.size].reshape(t.shape))
            for t in chosen
        }

"""The buffer behind an adapter's parameters, which one decode fills."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import Manifest, layout
from metro_fast.experts.loading.checks import check_parameters
from metro_fast.experts.loading.embeddings import base_embeddings, twin_of
from metro_fast.experts.loading.parameters import parameters_by_key

if TYPE_CHECKING:
    import torch

RANK_AXIS = {"lora_A": 0, "lora_B": 1}
"""The axis of the rank in the shape of a factor, by the factor's role."""


class Arena:
    """One buffer in the layout of an expert file: each tensor begins at a multiple of 32 elements.

    Args:
        adapted: The PeftModel.
        adapter_name: The adapter whose parameters become views of the buffer.
        manifest: The manifest of the first expert.

    Attributes:
        parameters: The model's parameters by the expert's names, ternary ones first, then dense.
        shapes: The shapes of the ternary parameters, by name.
        dense: The shapes of the dense parameters, by name.
        dtype: The safetensors name of the dtype of the ternary parameters.
        bits: The buffer as the native decoder writes it; empty if it is not on the CPU.

    Raises:
        MetroFastError: If the model lacks a parameter, or one cannot be overwritten in place.
    """

    def __init__(self, adapted: Any, adapter_name: str, manifest: Manifest) -> None:
        torch = require("torch", "peft")
        self._torch = torch
        self.parameters = parameters_by_key(adapted, adapter_name)
        self.shapes = {tensor.name: tensor.shape for tensor in manifest.tensors}
        self.dense = {tensor.name: tensor.shape for tensor in manifest.dense}
        # Embeddings of the base that PEFT saves with an adapter are copied as heads are.
        embeddings = base_embeddings(adapted)
        self.parameters |= {n: embeddings[n] for n in self.dense if n in embeddings}
        twins = {n: twin_of(n) for n in self.dense if n not in self.parameters}
        self.parameters |= {n: self.parameters[t] for n, t in twins.items() if t in self.parameters}
        for name in (*self.shapes, *self.dense):
            if name not in self.parameters:
                raise MetroFastError(
                    f"{name} gets another name or layout when PEFT loads it into this model, but a "
                    "pool decodes it as it is: use load_expert"
                )
        check_parameters(self.parameters)
        ternary = [self.parameters[name] for name in self.shapes]
        dtypes = {parameter.dtype for parameter in ternary}
        names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
        if len(dtypes) != 1 or not dtypes <= set(names):
            raise MetroFastError(
                f"the adapter's parameters have the dtypes {sorted(map(str, dtypes))}, expected "
                "one of float32, float16 and bfloat16 for all of them"
            )
        (dtype,) = dtypes
        self.dtype = names[dtype]
        starts, count = layout([parameter.numel() for parameter in ternary])
        self.buffer = torch.zeros(count, dtype=dtype, device=ternary[0].device)
        bits = self.buffer if self.dtype == "F32" else self.buffer.view(torch.uint16)
        on_cpu = self.buffer.device.type == "cpu"
        self.bits: NDArray[Any] = np.asarray((bits if on_cpu else bits[:0].cpu()).numpy())
        self._changed = [self.parameters[name] for name in (*self.shapes, *self.dense)]
        self._places = []
        for parameter, start in zip(ternary, starts, strict=True):
            view = self.buffer[start : start + parameter.numel()].view(parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            self._places.append((parameter, view.data_ptr()))
        self._views = {name: self.parameters[name].data for name in self.shapes}

    def check(self) -> None:
        """Check that the parameters are still views of the buffer.

        Raises:
            MetroFastError: If one of them was moved to other memory.
        """
        for parameter, place in self._places:
            if parameter.data_ptr() != place:
                raise MetroFastError(
                    "the adapter's parameters were moved out of the pool's buffer (by model.to(), "
                    "half() or load_state_dict(assign=True)): create a new pool after such a call"
                )

    def has_layout_of(self, expert: Expert) -> bool:
        """Whether an expert's file has the same layout as the buffer."""
        return self.shapes == {tensor.name: tensor.shape for tensor in expert.manifest.tensors}

    def values_of(self, bits: NDArray[Any]) -> "torch.Tensor":
        """The output of the native decoder as a tensor of the buffer's dtype."""
        values: torch.Tensor = self._torch.from_numpy(bits).view(self.buffer.dtype)
        return values

    def set_padded(self, expert: Expert, values: "torch.Tensor") -> None:
        """Copy an expert of lower rank, decoded in its own layout, and pad it with zeros."""
        for tensor in expert.manifest.tensors:
            part = values[tensor.start : tensor.start + tensor.size].view(tensor.shape)
            view = self._views[tensor.name]
            axis = RANK_AXIS.get(role_of(tensor.name) or "", 0)
            rank = tensor.shape[axis]
            view.narrow(axis, 0, rank).copy_(part)
            view.narrow(axis, rank, view.shape[axis] - rank).zero_()

    def set_dense(self, expert: Expert) -> None:
        """Copy an expert's dense tensors (heads, `modules_to_save`) into the model."""
        for name, tensor in expert.dense.items():
            self.parameters[name].data.copy_(tensor.torch())

    def bump(self) -> None:
        """Mark the parameters as changed, so that autograd notices that its copies are stale."""
        self._torch.autograd.graph.increment_version(self._changed)

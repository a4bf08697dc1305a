"""METRO draws where its logits are: nothing is copied from the device to the host."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metro_cases import MetroCollator, Rows, metro_model
from metro_fast.metro.draws import Draw, Sampling


class Watch(TorchDispatchMode):
    """Records the ops of a block, with the devices that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, set[str], set[str]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen.append((str(func), devices((args, kwargs)), devices(result)))
        return result

    def copies_to_the_host(self) -> list[str]:
        return [
            name
            for name, read, written in self.seen
            if "cuda" in read and ("cpu" in written or "_local_scalar_dense" in name)
        ]


def devices(tree: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}


def on_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.empty(v.shape, dtype=v.dtype, device="cuda") for k, v in batch.items()}


@pytest.mark.parametrize(
    "options",
    [{}, {"sampling_top_k": 5, "exclude_original": True, "forbidden_token_ids": [0, 60]}],
    ids=["all tokens", "limits"],
)
def test_a_forward_on_a_gpu_copies_nothing_to_the_host(options: dict[str, Any]) -> None:
    batch = MetroCollator()([Rows()[i] for i in range(4)])
    # Tensors without data, whose device is a GPU that need not be there.
    with FakeTensorMode():
        with torch.device("cuda"):
            model, fake = metro_model(**options), on_device(batch)
        with Watch() as watch:
            model(**fake)
    assert watch.copies_to_the_host() == []
    drawn = [each for each in watch.seen if "sample_replacements" in each[0]]
    assert [each[1:] for each in drawn] == [({"cuda"}, {"cuda"})]


def test_a_device_without_a_kernel_gets_the_draws_of_the_cpu() -> None:
    with FakeTensorMode(), Watch() as watch:
        draw = Draw(Sampling(seed=3, top_k=4), 2, torch.arange(6), torch.arange(6))
        logits = torch.empty(6, 9, device="xpu")
        found = draw.sample(logits, torch.zeros(6, dtype=torch.int64, device="xpu"))
    assert found.device.type == "xpu"
    assert [each[1:] for each in watch.seen if "sample_repl" in each[0]] == [({"cpu"}, {"cpu"})]

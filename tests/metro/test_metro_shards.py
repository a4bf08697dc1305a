"""FSDP2 by the backbone's groups: the gradients of two ranks are those of one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from metro_cases import MetroCollator, Rows, metro_model
from warm_processes import run_ranks

CASES: list[dict[str, Any]] = [
    {"embedding_sharing": "none"},
    {"embedding_sharing": "token", "rtd_head": "both"},
    {"embedding_sharing": "token_rel_norm", "decoding_target": "masked_only"},
    {"embedding_sharing": "disentangled", "decoding_target": "all"},
    {"main": {"model_type": "umt5"}, "embedding_sharing": "token_rel_norm"},
    {"main": {"model_type": "metro_t0"}, "embedding_sharing": "token_pos_norm"},
]


def loss_of(model: Any, rows: list[int], unmasked: tuple[int, ...]) -> torch.Tensor:
    data = Rows()
    output = model(**MetroCollator(unmasked)([data[i] for i in rows]))
    parts = [output.mlm, output.lm, output.rtd, output.rtd_decoder]
    return torch.stack([part.sum for part in parts if part is not None]).sum()


def sharded_rank(folder: Path, cases: list[dict[str, Any]]) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    found = []
    for case in cases:
        model = metro_model(**case)
        for group in model.backbone.shard_groups(model):
            fully_shard(group, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        # The rows of rank 1 have no masked token.
        (2 * loss_of(model, [2 * rank, 2 * rank + 1], (2, 3))).backward()  # FSDP averages
        gradients = {n: p.grad.full_tensor() for n, p in model.named_parameters()}
        found.append(gradients)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads and the interpreter's teardown; see gradient_rank


@pytest.mark.slow  # two processes and six models
def test_sharded_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    run_ranks(2, sharded_rank, tmp_path, CASES, folder=tmp_path)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for i, case in enumerate(CASES):
        model = metro_model(**case)
        # Two passes, so that each row has the width that it has on its rank.
        (loss_of(model, [0, 1], (2, 3)) + loss_of(model, [2, 3], (2, 3))).backward()
        expected = {n: p.grad for n, p in model.named_parameters()}
        # The gradient of a key's bias is 0 but for rounding, since softmax takes no notice of it.
        least = 1e-3 * max(gradient.abs().max().item() for gradient in expected.values())
        for rank in range(2):
            assert ranks[rank][i].keys() == expected.keys(), case
            for name, gradient in expected.items():
                scale = max(gradient.abs().max().item(), least)
                error = (ranks[rank][i][name] - gradient).abs().max().item() / scale
                assert error <= 1e-5, (case, name)

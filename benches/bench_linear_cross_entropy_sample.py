"""The fused vocabulary head, forward and backward with a draw, against whole logits and torch.

Peers that draw nothing are marked. The time of a round is of both passes; `extra_mib` is what the
peak of the process grew by beyond the gradients, in a process of its own.
"""

import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from metro_fast.ops import sample_replacements
from metro_fast.ops.torch import linear_cross_entropy_sample

VOCABULARY = 32_128
SHAPES = {"4096 x 768": (4_096, 768), "2048 x 128": (2_048, 128)}
PAIR = torch.tensor([1, 2])


def fused(hidden, weight, targets):
    linear_cross_entropy_sample(hidden, weight, targets, seed_epoch=PAIR).loss.sum().backward()


def whole_logits(hidden, weight, targets):
    """The same by torch and the fast sampler: what METRO's heads did before."""
    logits = functional.linear(hidden, weight)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    detached = logits.detach()
    _ = detached.argmax(-1) == targets
    sample_replacements(detached, seed=1, epoch=2)
    losses.sum().backward()


def torch_multinomial(hidden, weight, targets):
    """The same by torch alone: what METRO-T0 does."""
    logits = functional.linear(hidden, weight)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    detached = logits.detach()
    _ = detached.argmax(-1) == targets
    torch.multinomial(detached.softmax(-1), 1)
    losses.sum().backward()


def torch_chunked_without_draw(hidden, weight, targets):
    options = torch.nn.LinearCrossEntropyOptions()
    functional.linear_cross_entropy(
        hidden, weight, targets, reduction="sum", options=options
    ).backward()


METHODS = {
    f.__name__: f for f in (fused, whole_logits, torch_multinomial, torch_chunked_without_draw)
}


def tensors(shape):
    rows, width = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator)
    weight = torch.randn(VOCABULARY, width, generator=generator) * width**-0.5
    targets = torch.randint(0, VOCABULARY, (rows,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def growth(shape, method, connection):
    """Send the mebibytes by which the peak grows, beyond the two gradients."""
    hidden, weight, targets = tensors(shape)
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    torch.mm(hidden[:64].detach(), weight.detach().t())  # the buffers of the product
    # Not getrusage, whose peak a new process inherits from the one that started it.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mib()
    METHODS[method](hidden, weight, targets)
    connection.send(peak_mib() - before)


def peak_mib():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def extra_mib(shape, method):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=growth, args=(shape, method, sender))
    process.start()
    found = receiver.recv()
    process.join()
    return round(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_head(benchmark, method, shape):
    benchmark.group = f"linear_cross_entropy_sample {shape} x {VOCABULARY}"
    hidden, weight, targets = tensors(shape)

    def step():
        hidden.grad = weight.grad = None
        METHODS[method](hidden, weight, targets)

    benchmark.extra_info["extra_mib"] = extra_mib(shape, method)
    benchmark.pedantic(step, rounds=3 if "768" in shape else 7, warmup_rounds=1)

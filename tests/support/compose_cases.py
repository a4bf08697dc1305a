"""Small models, adapters of them and a score, for the searches over experts.

`adapted(seed)` is the same model with the same adapter in every process.
"""

import os
import signal
from pathlib import Path

import peft
import torch

from metro_fast.experts import Expert, compose_fewshot, compress

CONFIGS = {
    "lora": lambda **more: peft.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": ["0", "2"], **more}
    ),
    "ia3": lambda **more: peft.IA3Config(target_modules=["0", "2"], feedforward_modules=[], **more),
}


def base():
    torch.manual_seed(0)
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(16, 24), torch.nn.Dropout(0.5), linear(24, 8))


def adapted(seed: int, kind: str = "lora", **more):
    model = peft.get_peft_model(base(), CONFIGS[kind](**more))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            start = 1.0 if kind == "ia3" else 0.0
            torch.nn.init.normal_(parameter, start, 0.3, generator=generator)
    return model.eval()


def experts(count: int = 3, kind: str = "lora") -> dict[str, Expert]:
    return {f"e{seed}": compress(adapted(seed, kind), density=0.5) for seed in range(count)}


class Distance:
    """Distance of the model's output from that of a model with known weights; counts its calls."""

    def __init__(self, wanted, stop_at: int = -1):
        self.inputs = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
        self.wanted = wanted(self.inputs).detach()
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, model) -> float:
        assert not model.training
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return float((model(self.inputs) - self.wanted).detach().square().mean())


def search_that_dies(log: Path, number: signal.Signals) -> None:
    """Search until the sixth score, at which the process sends itself a signal."""

    class Dies(Distance):
        def __call__(self, model) -> float:
            if self.calls == 5:
                os.kill(os.getpid(), number)
            return super().__call__(model)

    compose_fewshot(adapted(7), experts(3), Dies(adapted(0)), max_steps=16, resume=log)

"""A small expert that vLLM can serve, and stubs of the classes of vLLM that the resolver uses."""

import json
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest

from metro_fast.experts import Expert, compress
from metro_fast.experts.adapters.tensors import RawTensor


def expert(seed: int = 0, **options) -> Expert:
    rng = np.random.default_rng(seed)
    raw = {
        f"base_model.model.q.lora_{x}.weight": RawTensor.of(
            rng.standard_normal(shape, np.float32), x
        )
        for x, shape in (("A", (4, 30)), ("B", (30, 4)))
    }
    result = compress({name: tensor.data for name, tensor in raw.items()}, density=0.5)
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 4, "lora_alpha": 8}
    result.config = json.dumps(config | options).encode()
    return result


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch):
    """Stubs of the two modules of vLLM that the resolver imports."""

    @dataclass
    class LoRARequest:
        lora_name: str
        lora_int_id: int
        lora_path: str

    class LoRAResolver:
        pass

    class Registry:
        resolvers: ClassVar = {}

        @classmethod
        def register_resolver(cls, name, resolver):
            cls.resolvers[name] = resolver

    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora")}
    modules["vllm.lora.request"] = ModuleType("vllm.lora.request")
    modules["vllm.lora.resolver"] = ModuleType("vllm.lora.resolver")
    modules["vllm.lora.request"].LoRARequest = LoRARequest
    modules["vllm.lora.resolver"].LoRAResolver = LoRAResolver
    modules["vllm.lora.resolver"].LoRAResolverRegistry = Registry
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return Registry

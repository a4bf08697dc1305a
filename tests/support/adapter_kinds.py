"""One small trained adapter of every type that PEFT has, and of LoRA with every setting.

Each is made on the spot by stock PEFT on a model of two layers, with random weights in place of
training, and saved as PEFT saves it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
from peft import PeftType, TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

TOKENS = 48
NAME = "org/tiny-llama"


class Case(NamedTuple):
    """An adapter to be made.

    Attributes:
        options: Settings of PEFT's configuration, beside the modules.
        peft_type: The type, as PEFT names it.
        base: Makes the model.
        named: What a refusal has to name.
    """

    options: dict[str, Any]
    peft_type: str = "LORA"
    base: "Callable[[], torch.nn.Module]" = lambda: llama()
    named: tuple[str, ...] = ()


def llama(tied: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    model.config._name_or_path = model.name_or_path = NAME
    return model


class Layers(torch.nn.Module):
    """Layers that a language model does not have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.name_or_path = NAME
        self.conv = torch.nn.Conv1d(1, 8, 3, padding=1)
        self.gpt2 = Conv1D(8, 8)
        self.dense = torch.nn.Linear(8, 8)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.one_hot(input_ids, TOKENS).float().sum(1, keepdim=True)
        return self.dense(self.gpt2(self.conv(x).transpose(1, 2)))


def layers() -> torch.nn.Module:
    return Layers().eval()


_ATTENTION = {"target_modules": ["q_proj", "v_proj"]}
_SQUARE = {"target_modules": ["q_proj", "o_proj"]}
_PROMPT = {"num_virtual_tokens": 3}

TYPES = {
    "PROMPT_TUNING": _PROMPT,
    "MULTITASK_PROMPT_TUNING": _PROMPT | {"num_tasks": 2},
    "P_TUNING": _PROMPT | {"encoder_hidden_size": 16},
    "PREFIX_TUNING": _PROMPT | {"prefix_projection": True, "encoder_hidden_size": 16},
    "LORA": _ATTENTION | {"r": 4},
    "ADALORA": _ATTENTION | {"total_step": 10, "init_r": 4, "target_r": 2},
    "ADAMSS": _ATTENTION | {"r": 8, "num_subspaces": 2},
    "BEFT": _ATTENTION,
    "BOFT": _ATTENTION,
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "OFT": _ATTENTION | {"oft_block_size": 8},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "VERA": _SQUARE | {"r": 4},
    "FROD": _SQUARE,
    "PVERA": _SQUARE | {"r": 4},
    "FOURIERFT": _ATTENTION | {"n_frequency": 20},
    "HRA": _ATTENTION | {"r": 4},
    "VBLORA": _ATTENTION | {"num_vectors": 8, "vector_length": 4},
    "UNILORA": _ATTENTION | {"theta_d_length": 32},
    "CPT": {"cpt_token_ids": [1, 2, 3], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]},
    "C3A": _SQUARE | {"block_size": 8},
    "ROAD": _ATTENTION | {"group_size": 4},
    "TRAINABLE_TOKENS": {"token_indices": [1, 2]},
    "SHIRA": _ATTENTION | {"r": 2, "random_seed": 0},
    "WAVEFT": _ATTENTION | {"n_frequency": 20},
    "OSF": _SQUARE | {"effective_rank": 4},
    "GRALORA": _SQUARE | {"r": 4},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "SHADOW": {},
}
"""The settings of each type; those that are not here adapt query and value at rank 4."""


LORA = _ATTENTION | {"r": 4, "lora_alpha": 8}
SETTINGS = {
    "use_rslora": {"use_rslora": True},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 3}},
    "rank_pattern": {"rank_pattern": {"v_proj": 2}},
    "use_dora": {"use_dora": True},
    "bias": {"bias": "lora_only"},
    "bias of all layers": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "layers_to_transform": {"layers_to_transform": [1]},
    "exclude_modules": {"exclude_modules": r".*layers\.0.*"},
    "target_modules, a pattern": {"target_modules": r".*layers\.1.*q_proj"},
    "target_modules, all-linear": {"target_modules": "all-linear"},
    "target_modules, embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "init_lora_weights, gaussian": {"init_lora_weights": "gaussian"},
    "init_lora_weights, orthogonal": {"init_lora_weights": "orthogonal"},
    "init_lora_weights, pissa": {"init_lora_weights": "pissa"},
    "init_lora_weights, olora": {"init_lora_weights": "olora"},
    "trainable_token_indices": {"trainable_token_indices": [1, 2]},
    "target_parameters": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
    "alora_invocation_tokens": {"alora_invocation_tokens": [7, 8]},
    "layer_replication": {"layer_replication": [(0, 2), (1, 2)]},
    "velora_config": {"velora_config": {"num_groups": 4}},
    "use_bdlora": {
        "use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False}
    },
    "kasa_config": {"kasa_config": {}},
    "monteclora_config": {"monteclora_config": {}},
    "fan_in_fan_out": {"target_modules": ["gpt2"], "fan_in_fan_out": True},
    "convolution": {"target_modules": ["conv"]},
    "convolution, use_dora": {"target_modules": ["conv", "dense"], "use_dora": True},
}
"""Settings of LoRA that change its result, its tensors or its start, beside `LORA`."""


NAMED = {
    "velora_config": ("velora",),
    "convolution, use_dora": ("use_dora", "convolution"),
    "modules_to_save": ("modules_to_save", "heads_from"),
}
"""The words that a refusal has to say, where they are not the setting."""


def settings() -> dict[str, Case]:
    """LoRA with every setting of `SETTINGS`."""
    return {
        name: Case(
            LORA | options,
            base=layers if name.startswith(("conv", "fan")) else llama,
            named=NAMED.get(name, (name.split(",")[0].split()[0],)),
        )
        for name, options in SETTINGS.items()
    }


def types() -> dict[str, Case]:
    """Every type that the installed PEFT has, in its order."""
    prompts = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
    return {
        kind.value: Case(
            TYPES.get(kind.value, _ATTENTION | {"r": 4}),
            kind.value,
            named=(kind.value, "prompt") if kind.value in prompts else (kind.value,),
        )
        for kind in PeftType
    }


def config_of(case: Case) -> Any:
    options = dict(case.options)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(case.peft_type)]
    if case.base is not layers:
        options.setdefault("task_type", TaskType.CAUSAL_LM)
    return kind(**options)


def make(case: Case, folder: Path, seed: int, dtype: torch.dtype = torch.float32) -> None:
    """Save a trained adapter of a case."""
    if case.peft_type == "XLORA":
        make(Case(TYPES["LORA"]), folder / "0", seed)
        case = case._replace(options={"hidden_size": 32, "adapters": {"0": str(folder / "0")}})
    model = case.base()
    if case.peft_type == "XLORA":
        model.config.use_cache = False
    made = peft.get_peft_model(model, config_of(case), autocast_adapter_dtype=False)
    torch.manual_seed(seed)
    with torch.no_grad():
        for _, parameter in made.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    made.to(dtype).save_pretrained(folder, save_embedding_layers=False)

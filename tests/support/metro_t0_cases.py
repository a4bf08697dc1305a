"""A small model of METRO-T0's architecture, ragged batches, and the released model's outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from metro_fast.metro import MetroT0Config, MetroT0ForConditionalGeneration

PAD, VOCAB = 1, 61


def metro_t0_config(**settings: Any) -> MetroT0Config:
    small = {
        "vocab_size": VOCAB,
        "d_model": 32,
        "d_ff": 48,
        "num_heads": 4,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "max_position_embeddings": 40,
        "dropout_rate": 0.0,
        "attention_dropout": 0.0,
    }
    return MetroT0Config(**{**small, **settings})


def metro_t0(attention: str = "sdpa", **settings: Any) -> MetroT0ForConditionalGeneration:
    """A model whose tables of distances are away from 0, so that they have an effect."""
    torch.manual_seed(0)
    model = MetroT0ForConditionalGeneration._from_config(
        metro_t0_config(**settings), attn_implementation=attention
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name or name.endswith("bias"):
                parameter.normal_(std=0.5)
    return model.eval()


def ragged(lengths: tuple[int, ...] = (13, 5, 9), *, left: bool = False) -> dict[str, torch.Tensor]:
    """Rows with padding on one side: input, mask, labels."""
    generator = np.random.default_rng(7)
    width = max(lengths)
    ids = torch.full((len(lengths), width), PAD)
    for row, length in zip(ids, lengths, strict=True):
        tokens = torch.from_numpy(generator.integers(4, VOCAB, length))
        row[width - length if left else 0 :][:length] = tokens
    mask = (ids != PAD).long()
    labels = ids.flip(0).masked_fill(mask.flip(0) == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def released_files(prefix: Path) -> dict[str, Any]:
    """The published model on random weights: its config, weights, and cases."""
    content: dict[str, Any] = json.loads(Path(f"{prefix}.json").read_text())
    weights = load_file(f"{prefix}_weights.safetensors")
    content["weights"] = {name: weight.float() for name, weight in weights.items()}
    tensors = load_file(f"{prefix}_io.safetensors")
    for case in content["cases"]:
        start = case["prefix"]
        case["tensors"] = {
            n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)
        }
    return content

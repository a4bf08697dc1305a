"""Floating-point operations of an encoder-decoder, by the formula of the matrix product.

A product of an [m, k] and a [k, n] matrix has 2 m k n. Embeddings, norms, softmax and the relative
biases are left out, as is usual, and masked positions of the causal attention are counted, since
they are computed. A backward pass has twice the operations of the forward pass: once for the
gradient of the input, and once for that of the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

QUERIES = ("q", "q_proj", "query")
KEYS_AND_VALUES = ("k", "v", "k_proj", "v_proj", "key", "value")
CROSS = ("encdec", "enc_dec", "cross", "encoder_attn")


def linear_weights(module: nn.Module) -> int:
    """Number of weights of all linear layers in a module.

    Example:
        >>> linear_weights(nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 4)))
        12
    """
    return sum(
        part.in_features * part.out_features
        for part in module.modules()
        if isinstance(part, nn.Linear)
    )


@dataclass(frozen=True)
class StackFlops:
    """The operations of an encoder or decoder stack, as factors of its lengths.

    Attributes:
        per_token: Linear layers, for each token of the stack.
        per_source: Keys and values of the cross-attention, for each token of the encoder.
        per_pair: Scores and sums of the self-attention, for each pair of tokens.
        per_cross_pair: The same of the cross-attention.
    """

    per_token: int
    per_source: int
    per_pair: int
    per_cross_pair: int

    @classmethod
    def of(cls, stack: nn.Module) -> "StackFlops":
        """Read the factors from the layers of a stack.

        Args:
            stack: A module whose attention layers have linear layers named as in transformers.
        """
        source = pair = cross_pair = 0
        for name, attention, queries in _attentions(stack):
            if any(mark in name.lower() for mark in CROSS):
                parts = dict(attention.named_children())
                source += sum(linear_weights(parts[k]) for k in KEYS_AND_VALUES if k in parts)
                cross_pair += queries
            else:
                pair += queries
        return cls(2 * (linear_weights(stack) - source), 2 * source, 4 * pair, 4 * cross_pair)

    def forward(self, rows: int, length: int, source: int = 0) -> int:
        """Operations of one forward pass.

        Args:
            rows: Number of rows.
            length: Tokens of a row of this stack, with padding.
            source: Tokens of a row of the encoder that it reads, with padding.
        """
        return rows * (
            length * (self.per_token + length * self.per_pair + source * self.per_cross_pair)
            + source * self.per_source
        )


def _attentions(stack: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    """Name, module, and width of the queries of each attention layer."""
    for name, module in stack.named_modules():
        for child, layer in module.named_children():
            width = getattr(layer, "out_features", None)
            if child in QUERIES and width is not None:
                yield name, module, int(width)


class Seq2SeqFlops:
    """The operations of an encoder-decoder of transformers, or of one with LoRA.

    Args:
        model: It has `get_encoder`, `get_decoder` and `get_output_embeddings`.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> sizes = dict(d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1, vocab_size=32)
        >>> flops = Seq2SeqFlops(T5ForConditionalGeneration(T5Config(**sizes)))
        >>> flops.forward(rows=1, source=10, target=5, scored=5)
        27360
    """

    def __init__(self, model: Any) -> None:
        self.encoder = StackFlops.of(model.get_encoder())
        self.decoder = StackFlops.of(model.get_decoder())
        head = model.get_output_embeddings()
        self.per_scored = 0 if head is None else 2 * head.weight.numel()

    def forward(self, rows: int, source: int, target: int, scored: int) -> int:
        """Operations of one forward pass.

        Args:
            rows: Number of rows.
            source: Tokens of a row of the encoder, with padding.
            target: The same of the decoder.
            scored: Positions of all rows for which the head computes logits.
        """
        return (
            self.encoder.forward(rows, source)
            + self.decoder.forward(rows, target, source)
            + scored * self.per_scored
        )


def trained_factor(model: nn.Module) -> float:
    """Operations of forward and backward over those of the forward: 3 if every weight is trained.

    A frozen weight has no gradient of its own, which saves its share of one of the three parts.

    Example:
        >>> trained_factor(nn.Linear(2, 3))
        3.0
    """
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    total = sum(size for size, _ in sizes)
    return 2.0 + sum(size for size, trained in sizes if trained) / max(1, total)

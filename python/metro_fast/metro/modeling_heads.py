"""The two heads: tied language-model logits, and replaced-token detection."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization


class ReplacedTokenHead(nn.Module):
    """Scores each encoder position: the logit of "this token was replaced".

    One hidden layer; the output layer starts at zero, so that every probability starts at 1/2 and
    the loss at ln 2 (METRO-T0 and ELECTRA do the same).

    Args:
        d_model: Width of the encoder.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, 1)

    def reset(self, layer: nn.Module) -> None:
        """Initialize one of the two layers, unless a checkpoint has loaded it.

        Args:
            layer: Any module; only this head's own layers are initialized.
        """
        if layer is self.dense:
            initialization.normal_(self.dense.weight, std=self.dense.in_features**-0.5)
        elif layer is self.output:
            initialization.zeros_(self.output.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits [...] from hidden states [..., d_model]."""
        logits: Tensor = self.output(functional.gelu(self.dense(hidden)))
        return logits.squeeze(-1)


def tied_logits(hidden: Tensor, embedding: Tensor, *, scaled: bool) -> Tensor:
    """Compute vocabulary logits from a tied embedding matrix.

    T5's embeddings start as N(0, 1), so its hidden states are scaled by d_model^-1/2 before the
    product (Mesh TensorFlow; `scale_decoder_outputs` of transformers).

    Args:
        hidden: [rows, d_model].
        embedding: [vocabulary, d_model].
        scaled: Whether the factor is applied.

    Returns:
        [rows, vocabulary].

    Example:
        >>> tied_logits(torch.ones(1, 4), torch.eye(3, 4), scaled=True)
        tensor([[0.5000, 0.5000, 0.5000]])
    """
    if scaled:
        hidden = hidden * hidden.shape[-1] ** -0.5
    return functional.linear(hidden, embedding)


def rows_at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Take the rows [M, d] of hidden states [B, L, d] at flat positions [M] of B*L."""
    return torch.index_select(hidden.flatten(0, 1), 0, positions)

"""The heads: where rows of hidden states become a loss, a draw and an accuracy."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.activations import ACT2FN

from metro_fast.metro.draws import Draw
from metro_fast.metro.losses import token_losses
from metro_fast.ops import torch as registered


class TokenLoss(NamedTuple):
    """One loss: a sum over tokens (never a mean), which can be added over batches and ranks.

    A tuple, because the hooks of FSDP find tensors in tuples, but not in any class.

    Attributes:
        sum: fp32 scalar, differentiable.
        count: int64 scalar, number of tokens that have the loss.
        correct: int64 scalar, how many of them are predicted correctly.
    """

    sum: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    correct: Tensor


class Prediction(NamedTuple):
    """The result of `VocabularyHead.predict`.

    Attributes:
        loss: Sum, count, and how many targets have the highest logit.
        correct: bool [rows], whether the target has the highest logit.
        sampled: int64 [rows], the drawn tokens; None without a draw.
    """

    loss: TokenLoss
    correct: Tensor
    sampled: Tensor | None


@dataclass(frozen=True)
class VocabularyHead:
    """Predicts tokens from rows of hidden states; the only place where vocabulary logits exist.

    Attributes:
        projection: A linear layer onto the vocabulary: its weight and bias.
        scale: Factor of the rows before it. A layer that is tied to T5's N(0, 1) embeddings needs
            d_model^-1/2 (Mesh TensorFlow), or the first loss is about d_model instead of ln V.
        softcap: Bound c of the logits, c * tanh(logits / c), or None.
        transform: A module applied to the rows first, or None.
        label_smoothing: See `losses.token_losses`.
        z_loss: See `losses.token_losses`.
    """

    projection: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    transform: nn.Module | None = None
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def logits(self, rows: Tensor) -> Tensor:
        """Compute logits [rows, vocabulary] from hidden states [rows, d_model]."""
        if self.transform is not None:
            rows = self.transform(rows)
        if self.scale != 1.0:
            rows = rows * self.scale
        logits: Tensor = self.projection(rows)
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def predict(
        self,
        rows: Tensor,
        targets: Tensor,
        *,
        draw: Draw | None = None,
        row_weights: Tensor | None = None,
    ) -> Prediction:
        """Score the targets, and draw a token for each row if asked to.

        Args:
            rows: [rows, d_model]; without a row the loss still has a gradient then.
            targets: int64 [rows], ids of the vocabulary.
            draw: How and with which key to draw; None for no draw.
            row_weights: fp32 [rows], a factor of each row's loss, without gradient; None for 1.
        """
        parts = self._fusible(rows, draw)
        if parts is not None:
            return self._fused(*parts, targets, draw, row_weights)
        logits = self.logits(rows)
        losses = token_losses(
            logits, targets, label_smoothing=self.label_smoothing, z_loss=self.z_loss
        )
        if row_weights is not None:
            losses = losses * row_weights
        detached = logits.detach()
        correct = detached.argmax(-1) == targets
        loss = TokenLoss(losses.sum(), targets.new_tensor(targets.numel()), correct.sum())
        return Prediction(loss, correct, None if draw is None else draw.sample(detached, targets))

    def _fusible(
        self, rows: Tensor, draw: Draw | None
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """The rows, weight and bias for the fused op, or None where it is not defined.

        It sweeps over the vocabulary once, so that it does not know the likeliest tokens before it
        draws, and it is for the CPU. Another projection than a linear layer computes its own
        logits.
        """
        layer = self.projection
        if rows.device.type != "cpu" or type(layer) is not nn.Linear:
            return None
        if draw is not None and draw.sampling.top_k is not None:
            return None
        rows = rows if self.transform is None else self.transform(rows)
        weight, bias = layer.weight, layer.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            return rows.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return rows, weight, bias

    def _fused(
        self,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        draw: Draw | None,
        row_weights: Tensor | None,
    ) -> Prediction:
        found = registered.linear_cross_entropy_sample(
            rows,
            weight,
            targets,
            bias=bias,
            row_weights=row_weights,
            label_smoothing=self.label_smoothing,
            softcap=self.softcap,
            z_loss=self.z_loss,
            scale=self.scale,
            **({} if draw is None else draw.options(rows.device)),
        )
        count = targets.new_tensor(targets.numel())
        loss = TokenLoss(found.loss.sum(), count, found.correct.sum())
        return Prediction(loss, found.correct, found.sampled)


class MaskedTokenHead(nn.Module):
    """METRO's MLM head: dense, activation, LayerNorm, and a projection with a bias.

    The weight of the projection is tied to the token embeddings (metro_t0's `RobertaLMHead`).

    Args:
        d_model: Width of the encoder.
        vocab_size: Number of token ids.
        activation: Name of the activation.
    """

    def __init__(self, d_model: int, vocab_size: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.activation = ACT2FN[activation]
        self.norm = nn.LayerNorm(d_model)
        self.projection = nn.Linear(d_model, vocab_size)

    def reset(self, layer: nn.Module) -> None:
        """Initialize one layer of this head, unless a checkpoint has loaded it."""
        if layer is self.dense:
            initialization.normal_(self.dense.weight, std=self.dense.in_features**-0.5)
            initialization.zeros_(self.dense.bias)
        elif layer is self.projection:
            initialization.zeros_(self.projection.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Transform rows [..., d_model]; the projection is applied by `VocabularyHead`."""
        transformed: Tensor = self.norm(self.activation(self.dense(rows)))
        return transformed


class ReplacedTokenHead(nn.Module):
    """Scores each position: the logit of "this token was replaced".

    The output layer starts at zero, so that every probability starts at 1/2 and the loss at ln 2
    (METRO-T0).

    Args:
        d_model: Width of the encoder or decoder.
        activation: Name of the activation of the hidden layer; None for a linear layer alone.
    """

    def __init__(self, d_model: int, activation: str | None) -> None:
        super().__init__()
        if activation is None:
            self.dense = self.norm = None
        else:
            self.dense = nn.Linear(d_model, d_model)
            self.activation = ACT2FN[activation]
            self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, 1)

    def reset(self, layer: nn.Module) -> None:
        """Initialize one layer of this head, unless a checkpoint has loaded it."""
        if self.dense is not None and layer is self.dense:
            initialization.normal_(self.dense.weight, std=self.dense.in_features**-0.5)
            initialization.zeros_(self.dense.bias)
        elif layer is self.output:
            initialization.zeros_(self.output.weight)
            initialization.zeros_(self.output.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits [...] from hidden states [..., d_model]."""
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(self.activation(self.dense(hidden)))
        logits: Tensor = self.output(hidden)
        return logits.squeeze(-1)


def rows_at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Take the rows [M, d] of hidden states [B, L, d] at flat positions [M] of B*L."""
    return torch.index_select(hidden.flatten(0, 1), 0, positions)

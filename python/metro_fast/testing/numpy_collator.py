"""T5's span corruption in numpy, as public collators do it: a peer for benchmarks.

It was written from the specification (docs/denoising.md), not from other code. It makes one mask
per row by shuffling the ends of segments, numbers sentinels by sums over the batch, filters, and
appends EOS.
"""

import numpy as np
import numpy.typing as npt

from metro_fast.testing.noise_laws import span_counts

Batch = npt.NDArray[np.int64]


class NumpySpanCollator:
    """Turns rows of equal length into inputs and labels, as T5 draws them.

    Args:
        noise_density: Share of noise tokens.
        mean_noise_span_length: Mean number of tokens in a span.
        sentinel_first: Id of the first sentinel; the next ones count down.
        eos_token_id: Id that ends inputs and labels.
        seed: Seed of numpy's generator, which draws row by row.

    Example:
        >>> inputs, labels = NumpySpanCollator()(np.full((2, 568), 7))
        >>> inputs.shape, labels.shape
        ((2, 512), (2, 114))
    """

    def __init__(
        self,
        noise_density: float = 0.15,
        mean_noise_span_length: float = 3.0,
        sentinel_first: int = 32099,
        eos_token_id: int = 1,
        seed: int = 0,
    ) -> None:
        self.noise_density = noise_density
        self.mean_noise_span_length = mean_noise_span_length
        self.sentinel_first = sentinel_first
        self.eos_token_id = eos_token_id
        self._rng = np.random.default_rng(seed)

    def __call__(self, ids: npt.NDArray[np.integer]) -> tuple[Batch, Batch]:
        """Corrupt a batch.

        Args:
            ids: [B, L].

        Returns:
            int64 `input_ids` and `labels`. All rows have equal lengths, so neither is padded.
        """
        length = ids.shape[1]
        noise, spans = span_counts(length, self.noise_density, self.mean_noise_span_length)
        mask = np.stack([self._noise_mask(length, noise, spans) for _ in range(len(ids))])
        return self._replace(ids, mask), self._replace(ids, ~mask)

    def _noise_mask(self, length: int, noise: int, spans: int) -> npt.NDArray[np.bool_]:
        if spans == 0:
            return np.zeros(length, bool)
        runs = np.empty(2 * spans, np.int64)
        runs[::2] = self._segments(length - noise, spans)
        runs[1::2] = self._segments(noise, spans)
        return np.repeat(np.arange(2 * spans) % 2 == 1, runs)

    def _segments(self, total: int, parts: int) -> Batch:
        """Lengths of random non-empty parts: some items after the first one start a new part."""
        starts = np.arange(total - 1) < parts - 1
        self._rng.shuffle(starts)
        edges = np.flatnonzero(starts) + 1
        return np.diff(np.concatenate([[0], edges, [total]]))

    def _replace(self, ids: npt.NDArray[np.integer], hidden: npt.NDArray[np.bool_]) -> Batch:
        """The ids that are not hidden, a sentinel for every hidden run, and EOS."""
        starts = hidden.copy()
        starts[:, 1:] &= ~hidden[:, :-1]
        sentinels = self.sentinel_first + 1 - np.cumsum(starts, axis=1)
        marked = np.where(starts, sentinels, ids)
        kept = marked[starts | ~hidden].reshape(len(ids), -1)
        end = np.full((len(ids), 1), self.eos_token_id)
        return np.concatenate([kept, end], axis=1)

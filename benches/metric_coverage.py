"""Coverage of the intervals and null rates of the tests of metrics that are not accuracies.

Run: python benches/metric_coverage.py [runs]. 2,000 runs take about 5 minutes of one core.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from metro_fast.robustness.cochran import cochran_q
from metro_fast.robustness.resampling import paired_test, score_interval
from metro_fast.scoring import METRICS, Answer

RELATIONS = 9
# Shares of the relations and of Other in SemEval-2010 Task 8's test set (2,717 items).
SHARES = np.array([328, 312, 192, 292, 258, 156, 233, 261, 231, 454]) / 2717
NAMES = [*(f"R{i}(e1,e2)" for i in range(RELATIONS)), "Other"]
SHORTEST, LONGEST = 1, 6


def semeval_labels(draw: np.random.Generator, count: int) -> NDArray[np.intp]:
    return draw.choice(RELATIONS + 1, size=count, p=SHARES)


def semeval_guesses(draw: np.random.Generator, gold: NDArray[np.intp]) -> NDArray[np.intp]:
    """Right with a chance that falls from .9 for the first relation to .3 for Other."""
    right = draw.random(len(gold)) < np.linspace(0.9, 0.3, RELATIONS + 1)[gold]
    return np.where(right, gold, draw.integers(RELATIONS + 1, size=len(gold)))


def semeval_parts(gold: NDArray[np.intp], guesses: NDArray[np.intp]) -> NDArray[np.float64]:
    pairs = zip(gold.tolist(), guesses.tolist(), strict=True)
    return METRICS["semeval_macro_f1"].parts([Answer(NAMES[g], NAMES[p], g == p) for g, p in pairs])


def text_lengths(draw: np.random.Generator, count: int) -> NDArray[np.intp]:
    return draw.integers(SHORTEST, LONGEST + 1, size=count)


def text_parts(draw: np.random.Generator, gold: NDArray[np.intp]) -> NDArray[np.float64]:
    """Texts of which every right word is given with chance .6, and up to two wrong ones."""
    kept, wrong = draw.binomial(gold, 0.6), draw.integers(0, 3, size=len(gold))
    rows = zip(gold.tolist(), kept.tolist(), wrong.tolist(), strict=True)
    words = [f"w{i}" for i in range(LONGEST)]
    return METRICS["token_f1"].parts(
        [
            Answer(" ".join(words[:length]), " ".join([*words[:k], *["x"] * w]), False)
            for length, k, w in rows
        ]
    )


def one_model(metric: str, draw: np.random.Generator, count: int) -> NDArray[np.float64]:
    return models(metric, draw, count, 1)[0]


def models(
    metric: str, draw: np.random.Generator, count: int, number: int
) -> list[NDArray[np.float64]]:
    """The parts of several models that are alike, on the same items."""
    if metric == "token_f1":
        lengths = text_lengths(draw, count)
        return [text_parts(draw, lengths) for _ in range(number)]
    gold = semeval_labels(draw, count)
    return [semeval_parts(gold, semeval_guesses(draw, gold)) for _ in range(number)]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for name in ("semeval_macro_f1", "token_f1"):
        metric = METRICS[name]
        truth = float(metric.value(one_model(name, np.random.default_rng(0), 400_000).sum(0)))
        for count in (100, 400):
            draw = np.random.default_rng(1)
            ends = np.array(
                [
                    score_interval(metric, one_model(name, draw, count), resamples=1000, seed=run)
                    for run in range(runs)
                ]
            )
            low, high = (ends[:, 0] > truth).mean(), (ends[:, 1] < truth).mean()
            width = (ends[:, 1] - ends[:, 0]).mean()
            tests = [
                paired_test(metric, *models(name, draw, count, 2), swaps=999, seed=run).p_value
                for run in range(runs)
            ]
            q = [
                cochran_q([metric.item_values(p) for p in models(name, draw, count, 6)]).p_value
                for _ in range(runs)
            ]
            print(
                f"{name} N={count}: truth {truth:.3f}, covered {1 - low - high:.3f} (all above "
                f"{low:.3f}, all below {high:.3f}), width {width:.3f}; at 5 % the test of two "
                f"equal models rejects {np.mean(np.array(tests) <= 0.05):.3f}, Q of six "
                f"{np.mean(np.array(q) <= 0.05):.3f}"
            )


if __name__ == "__main__":
    main()

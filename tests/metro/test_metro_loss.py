"""METRO's sums and figures, checked by hand and against upstream's criterion."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metro_cases import metro_config
from metro_fast._training.objective import normalized
from metro_fast.metro import MetroForPretraining, figures, modeling
from metro_fast.metro.losses import replaced_token_loss_sum, token_loss_sum
from metro_fast.ops import torch as registered

NAMES = ("mlm", "lm", "rtd")


def test_sums_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(2.0), 0.0, 0.0]], requires_grad=True)
    loss = token_loss_sum(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(math.log(3) + math.log(2))
    loss.backward()
    expected = torch.tensor([[1 / 3, -2 / 3, 1 / 3], [-0.5, 0.25, 0.25]])
    torch.testing.assert_close(logits.grad, expected)

    scores = torch.tensor([[0.0, math.log(3.0), 9.0]])
    tokens = torch.tensor([[True, True, False]])
    loss = replaced_token_loss_sum(scores, torch.tensor([[True, False, True]]), tokens)
    assert loss.item() == pytest.approx(math.log(2) + math.log(4), rel=1e-6)


def test_sums_are_fp32_from_bf16_and_empty_sums_keep_the_graph() -> None:
    logits = torch.zeros(0, 5, dtype=torch.bfloat16, requires_grad=True)
    loss = token_loss_sum(logits, torch.zeros(0, dtype=torch.int64))
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None


def test_normalized_divides_each_sum_by_its_own_count() -> None:
    sums = torch.tensor([6.0, 8.0, 3.0], requires_grad=True)
    loss = normalized(sums, torch.tensor([3, 0, 30]), (1.0, 2.0, 50.0))
    assert loss.item() == pytest.approx(6 / 3 + 16 + 5)
    loss.backward()
    torch.testing.assert_close(sums.grad, torch.tensor([1 / 3, 2.0, 50 / 30]))


def _golden(folder: Path, case: str, target: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run our forward with upstream's stored logits in place of the networks'."""
    from safetensors.torch import load_file

    inputs = load_file(folder / "criterion_inputs.safetensors")
    part = {n.removeprefix(f"{case}."): t for n, t in inputs.items() if n.startswith(f"{case}.")}
    original, pad = part["original"], 1
    logits = {name: part[f"{name}_logits"].clone().requires_grad_() for name in NAMES}
    masked = (part["aux_target"] != pad).flatten().nonzero().squeeze(1)
    vocab = logits["mlm"].shape[1]
    config = metro_config(
        decoding_target=target,
        main={"vocab_size": vocab, "pad_token_id": pad, "decoder_start_token_id": 2},
    )
    model = MetroForPretraining(config)
    monkeypatch.setattr(model, "_auxiliary_logits", lambda *_: logits["mlm"])
    monkeypatch.setattr(
        registered, "sample_replacements", lambda *_, **__: part["replaced_input"].flatten()[masked]
    )
    monkeypatch.setattr(model.rtd_head, "forward", lambda _: logits["rtd"])
    monkeypatch.setattr(modeling, "rows_at", lambda _, positions: positions)
    monkeypatch.setattr(
        modeling, "tied_logits", lambda rows, *_, **__: logits["lm"].flatten(0, 1)[rows]
    )
    tokens = original != pad
    output = model(
        input_ids=part["replaced_input"],
        attention_mask=tokens.long(),
        labels=original.masked_fill(~tokens, -100),
        masked_positions=masked,
        sample_ids=torch.arange(len(original)),
    )
    return model, output, logits, tokens


@pytest.mark.parametrize("case", ["a", "b", "all_original"])
@pytest.mark.parametrize(("positions", "target"), [("none", "all"), ("lm", "all_masked_loss")])
def test_upstream_criterion(
    case: str, positions: str, target: str, golden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = json.loads((golden_folder / "criterion_expected.json").read_text())["runs"]
    plain = {
        "masked_positions_only": positions,
        "weighted_lm_loss": False,
        "rtd_loss_weight": 50.0,
        "divide_by_mean_weight": False,
        "label_smoothing": 0.0,
        "discriminator_loss_weight": 1.0,
        "rtd_only": False,
    }
    (run,) = (r for r in runs if r["case"] == case and r["options"] == plain)
    model, output, logits, tokens = _golden(golden_folder, case, target, monkeypatch)
    log, size = run["logging"], run["sample_size"]

    sums = torch.stack([output.mlm_loss_sum, output.lm_loss_sum, output.rtd_loss_sum])
    counts = torch.stack([output.num_masked, output.num_scored, output.num_encoder_tokens])
    for name, part in zip(("generator", "discriminator", "rtd"), sums.tolist(), strict=True):
        assert part == pytest.approx(log[f"{name}_loss"], rel=1e-5), name
    # Upstream's total is over sample_size tokens, the size of its decoder loss; ours is per token.
    weights = (model.config.mlm_weight, model.config.lm_weight, model.config.rtd_weight)
    loss = normalized(sums, counts, weights) * size
    assert loss.item() == pytest.approx(run["loss"], rel=1e-5)

    assert int(output.num_masked) == log["generator_sample_size"]
    assert int(output.mlm_correct) == log["generator_n_correct"]
    assert int(output.num_replaced) == log["replaced_total"]
    assert int(output.num_encoder_tokens - output.num_replaced) == log["unreplaced_total"]
    assert int(output.rtd_true_positive) == log["rtd_replaced_n_correct"]
    kept = output.num_encoder_tokens - output.num_replaced - output.rtd_false_positive
    assert int(kept) == log["rtd_unreplaced_n_correct"]
    if target == "all":  # upstream counts every token; we count those that have logits
        assert int(output.lm_correct_replaced) == log["replaced_n_correct"]
        assert int(output.lm_correct_unreplaced) == log["unreplaced_n_correct"]

    shares = figures.figures(figures.counters(output, tokens))
    logged = run["logged"]
    assert shares["replace_ratio"] * 100 == pytest.approx(logged["replace_ratio"], abs=2e-3)
    if logged["rtd_replaced_accuracy"] is not None and log["replaced_total"]:
        assert shares["rtd_recall"] * 100 == pytest.approx(
            logged["rtd_replaced_accuracy"], abs=2e-3
        )
    if "grad_prefix" in run:
        from safetensors.torch import load_file

        loss.backward()
        expected = load_file(golden_folder / "criterion_grads.safetensors")
        for name in NAMES:
            torch.testing.assert_close(
                logits[name].grad,
                expected[f"{run['grad_prefix']}{name}_logits"],
                rtol=0,
                atol=1e-5,
            )


@given(
    scores=st.lists(st.integers(-600, 600), min_size=2, max_size=60),
    data=st.data(),
)
def test_histogram_auc_is_exact_for_scores_on_the_grid(scores: list[int], data: Any) -> None:
    """Scores in the middle of bins: ties inside a bin are real ties, so the AUC is exact."""
    labels = data.draw(
        st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)).filter(
            lambda chosen: 0 < sum(chosen) < len(chosen)
        )
    )
    positive = [s for s, label in zip(scores, labels, strict=True) if label]
    negative = [s for s, label in zip(scores, labels, strict=True) if not label]
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    exact = wins / (len(positive) * len(negative))

    width = 2 * figures.LIMIT / figures.BINS
    histograms = []
    for part in (negative, positive):
        bins = torch.tensor([(s + 0.5) * width + figures.LIMIT for s in part]) / width
        histogram = torch.zeros(figures.BINS).index_add(
            0, bins.clamp(0, figures.BINS - 1).long(), torch.ones(len(part))
        )
        histograms.append(histogram)
    clipped = max(abs(s) for s in scores) >= figures.BINS // 2
    found = figures.histogram_auc(*histograms)
    assert found == pytest.approx(exact, abs=1.0 if clipped else 1e-12)


def test_figures_without_a_denominator_are_left_out() -> None:
    empty = {name: torch.zeros(size) for name, size in figures.COUNTERS.items()}
    assert figures.figures(empty) == {}

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
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroForPretraining, decoding, figures
from metro_fast.metro.heads import VocabularyHead
from metro_fast.metro.losses import replaced_token_losses, token_losses
from metro_fast.metro.objectives import REQUIRED, MetroObjective
from metro_fast.ops import torch as registered

NAMES = ("mlm", "lm", "rtd")


def test_sums_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(2.0), 0.0, 0.0]], requires_grad=True)
    loss = token_losses(logits, torch.tensor([1, 0])).sum()
    assert loss.item() == pytest.approx(math.log(3) + math.log(2))
    loss.backward()
    expected = torch.tensor([[1 / 3, -2 / 3, 1 / 3], [-0.5, 0.25, 0.25]])
    torch.testing.assert_close(logits.grad, expected)

    scores = torch.tensor([[0.0, math.log(3.0), 9.0]])
    loss = replaced_token_losses(scores, torch.tensor([[True, False, True]]))
    assert loss[0, :2].sum().item() == pytest.approx(math.log(2) + math.log(4), rel=1e-6)


def test_sums_are_fp32_from_bf16_and_empty_sums_keep_the_graph() -> None:
    logits = torch.zeros(0, 5, dtype=torch.bfloat16, requires_grad=True)
    loss = token_losses(logits, torch.zeros(0, dtype=torch.int64)).sum()
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None


def test_normalized_divides_each_sum_by_its_own_count() -> None:
    sums = torch.tensor([6.0, 8.0, 3.0], requires_grad=True)
    loss = normalized(sums, torch.tensor([3, 0, 30]), (1.0, 2.0, 50.0))
    assert loss.item() == pytest.approx(6 / 3 + 16 + 5)
    loss.backward()
    torch.testing.assert_close(sums.grad, torch.tensor([1 / 3, 2.0, 50 / 30]))


GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "criterion_expected.json").read_text())


def _options(upstream: dict[str, Any]) -> dict[str, Any]:
    """Upstream's options by our names; nothing is detected without a weight of detection."""
    positions, detects = upstream["masked_positions_only"], upstream["rtd_loss_weight"] > 0
    divides = upstream["divide_by_mean_weight"] and upstream["weighted_lm_loss"]
    return {
        "decoding_target": "all" if positions == "none" else "all_masked_loss",
        "rtd_head": "encoder" if detects else "none",
        "rtd_target": "masked" if positions == "both" and detects else "all",
        "rtd_weight": upstream["rtd_loss_weight"],
        "rtd_only": upstream["rtd_only"],
        "weighted_lm_loss": upstream["weighted_lm_loss"],
        # Without weights upstream divides by 1; we refuse an option that changes nothing.
        "divide_by_mean_weight": divides,
        "mean_weight_with_padding": divides and positions == "none",
        "label_smoothing": upstream["label_smoothing"],
        "lm_weight": upstream["discriminator_loss_weight"],
    }


def _golden(
    case: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, fused: bool
) -> Any:
    """Run our forward with upstream's stored logits in place of the networks'."""
    from safetensors.torch import load_file

    inputs = load_file(GOLDEN / "criterion_inputs.safetensors")
    part = {n.removeprefix(f"{case}."): t for n, t in inputs.items() if n.startswith(f"{case}.")}
    original, pad = part["original"], 1
    logits = {name: part[f"{name}_logits"].clone().requires_grad_() for name in NAMES}
    masked = (part["aux_target"] != pad).flatten().nonzero().squeeze(1)
    vocab = logits["mlm"].shape[1]
    config = metro_config(
        **options, main={"vocab_size": vocab, "pad_token_id": pad, "decoder_start_token_id": 2}
    )
    model = MetroForPretraining(config)

    def stored(head: VocabularyHead, rows: torch.Tensor) -> torch.Tensor:
        auxiliary = head.projection is model.mlm_head.projection
        return logits["mlm"] if auxiliary else logits["lm"].flatten(0, 1)[rows]

    monkeypatch.setattr(VocabularyHead, "logits", stored)
    # The fused head takes the stored logits for hidden states, and their product with 1.
    monkeypatch.setattr(
        VocabularyHead,
        "_fusible",
        lambda head, rows, _: (stored(head, rows), torch.eye(vocab), None) if fused else None,
    )
    sampled = part["replaced_input"].flatten()[masked]
    monkeypatch.setattr(registered, "sample_replacements", lambda *_, **__: sampled)
    predict = registered.linear_cross_entropy_sample
    monkeypatch.setattr(
        registered,
        "linear_cross_entropy_sample",
        lambda *tensors, **given: predict(*tensors, **given | {"scale": 1.0})._replace(
            sampled=sampled if "seed_epoch" in given else None
        ),
    )
    if model.rtd_head is not None:
        monkeypatch.setattr(model.rtd_head, "forward", lambda _: logits["rtd"])
    monkeypatch.setattr(decoding, "rows_at", lambda _, positions: positions)
    tokens = original != pad
    output = model(
        input_ids=part["replaced_input"],
        attention_mask=tokens.long(),
        labels=original.masked_fill(~tokens, -100),
        masked_positions=masked,
        sample_ids=torch.arange(len(original)),
    )
    batch = {
        "num_masked": len(masked),
        "num_labels": int(tokens.sum()),
        "num_encoder_tokens": int(tokens.sum()),
    }
    objective = MetroObjective(config)
    counts = objective.count(dict.fromkeys(REQUIRED, 0) | batch)
    sums = torch.stack([getattr(output, name).sum for name in objective.losses])
    return objective, output, sums, counts, logits, tokens


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("number", range(len(EXPECTED["runs"])))
def test_upstream_criterion(number: int, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = EXPECTED["runs"][number]
    options = _options(run["options"])
    if "error" in run:
        with pytest.raises(MetroFastError, match="weighted_lm_loss is True, but rtd_head"):
            metro_config(**options)
        return
    objective, output, sums, counts, logits, tokens = _golden(
        run["case"], options, monkeypatch, fused=fused
    )
    log, size = run["logging"], run["sample_size"]

    parts = dict(zip(("generator", "discriminator", "rtd"), sums.tolist(), strict=False))
    if options["rtd_only"]:  # upstream's sum is then 0; ours has a weight of 0
        assert parts.pop("discriminator") > 0
    for name, part in parts.items():
        assert part == pytest.approx(log[f"{name}_loss"], rel=1e-5, abs=1e-6), name
    # Upstream's total is over sample_size tokens, the size of its decoder loss; ours is per token.
    loss = normalized(sums, counts, objective.weights) * size
    assert loss.item() == pytest.approx(run["loss"], rel=1e-5)
    assert int(counts[0]) == log["generator_sample_size"]
    assert int(counts[1]) == size
    if options["rtd_head"] != "none":
        assert int(counts[2]) == log["rtd_sample_size"]

    n = figures.counters(output, tokens)
    assert int(n["mlm_correct"]) == log["generator_n_correct"]
    assert int(n["num_replaced"]) == log["replaced_total"]
    assert int(n["num_encoder_tokens"] - n["num_replaced"]) == log["unreplaced_total"]
    if options["rtd_head"] != "none":
        unreplaced, replaced = n["rtd_histogram"].view(2, figures.BINS)
        assert int(replaced[figures.BINS // 2 :].sum()) == log["rtd_replaced_n_correct"]
        assert int(unreplaced[: figures.BINS // 2].sum()) == log["rtd_unreplaced_n_correct"]
    if options["decoding_target"] == "all":  # upstream counts every token; we count scored ones
        assert int(n["lm_correct_replaced"]) == log["replaced_n_correct"]
        assert int(n["lm_correct_unreplaced"]) == log["unreplaced_n_correct"]

    shares = figures.figures(n)
    logged = run["logged"]
    assert shares["replace_ratio"] * 100 == pytest.approx(logged["replace_ratio"], abs=2e-3)
    if "rtd_recall" in shares:
        assert shares["rtd_recall"] * 100 == pytest.approx(
            logged["rtd_replaced_accuracy"], abs=2e-3
        )
    if "grad_prefix" in run:
        from safetensors.torch import load_file

        loss.backward()
        expected = load_file(GOLDEN / "criterion_grads.safetensors")
        for name in NAMES:
            key = f"{run['grad_prefix']}{name}_logits"
            assert (key in expected) == (logits[name].grad is not None)
            if key in expected:
                torch.testing.assert_close(logits[name].grad, expected[key], rtol=0, atol=1e-5)


def test_upstream_criterion_of_two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and counts add up over workers; the losses in nats are upstream's in bits."""
    two = EXPECTED["two_workers"]
    added = []
    for case in two["cases"]:
        with monkeypatch.context() as patch:
            _, output, sums, counts, _, tokens = _golden(
                case, _options(two["options"]), patch, fused=True
            )
            added.append((sums.detach(), counts, figures.counters(output, tokens)))
    sums, counts = (sum(part[i] for part in added) for i in (0, 1))
    means = (sums / counts / math.log(2)).tolist()
    names = ("generator_loss", "discriminator_loss", "rtd_loss")
    for name, mean in zip(names, means, strict=True):
        assert mean == pytest.approx(two["logged"][name], abs=6e-4), name
    totals = {name: sum(part[2][name] for part in added) for name in figures.COUNTERS}
    shares = figures.figures(totals)
    assert shares["aux_accuracy"] * 100 == pytest.approx(
        two["logged"]["generator_accuracy"], abs=2e-3
    )
    assert shares["rtd_recall"] * 100 == pytest.approx(
        two["logged"]["rtd_replaced_accuracy"], abs=2e-3
    )


def test_smoothing_and_z_loss_by_the_distribution() -> None:
    """Against the sum over the smoothed target, written out."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 3, 6, 3, 1])
    weights = torch.rand(5, generator=generator)
    smooth = torch.full((5, 7), 0.2 / 6, dtype=torch.float64)
    smooth[torch.arange(5), targets] = 0.8
    rows = -(smooth * logits.log_softmax(-1)).sum(-1)
    rows += 1e-2 * logits.exp().sum(-1).log() ** 2
    found = token_losses(logits, targets, label_smoothing=0.2, z_loss=1e-2) * weights
    assert found.sum().item() == pytest.approx((rows * weights).sum().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtd_head": "none", "weighted_lm_loss": True}, "weighted_lm_loss is True, but rtd_head"),
        ({"rtd_weight": 0, "rtd_target": "masked"}, "rtd_target is 'masked', but rtd_weight is 0"),
        ({"rtd_head": "none", "rtd_only": True}, "rtd_only is True, but rtd_head is 'none'"),
        ({"divide_by_mean_weight": True}, "but weighted_lm_loss is False"),
        ({"mean_weight_with_padding": True}, "needs divide_by_mean_weight"),
        ({"rtd_head": "none", "rtd_head_kind": "simple"}, "rtd_head_kind is 'simple', but"),
        ({"rtd_head": "decoder", "decoding_target": "masked_only"}, "decoder has no positions"),
        ({"auxiliary_frozen_from": 5, "auxiliary_dropped_from": 5}, "no longer runs"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"z_loss": -1.0}, "z_loss is -1.0"),
        ({"rtd_target": "some"}, "rtd_target is 'some'"),
    ],
)
def test_options_that_change_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MetroFastError, match=message):
        metro_config(**options)


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

"""Each option of METRO against a slow computation with plain models."""

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForPreTraining

from metro_cases import MAIN, MASK, VOCAB, MetroCollator, Rows, arguments, metro_config, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroConfig, MetroForPretraining, MetroTrainer, follow_auxiliary
from metro_fast.metro.draws import Draw, Sampling

MODES = ("masked_only", "all_masked_loss", "all")


def batch(**options: Any) -> dict[str, torch.Tensor]:
    return MetroCollator(**options)([Rows()[i] for i in range(4)])


def masks(b: dict[str, torch.Tensor]) -> torch.Tensor:
    flat = torch.zeros(b["input_ids"].numel(), dtype=torch.bool)
    flat[b["masked_positions"]] = True
    return flat.view_as(b["input_ids"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["all", "masked"])
def test_the_decoders_losses_row_by_row(mode: str, target: str) -> None:
    """Each row alone, without padding, through transformers' own forward of the main model."""
    if mode == "masked_only" and target == "all":
        pytest.skip("the decoder has no position for the other tokens, and this is refused")
    model = metro_model(decoding_target=mode, rtd_head="both", rtd_target=target).eval()
    b = batch()
    masked = masks(b)
    sums = dict.fromkeys(["lm", "rtd", "rtd_decoder"], 0.0)
    correct = dict.fromkeys(sums, 0)
    counts = dict.fromkeys(sums, 0)
    with torch.no_grad():
        output = model(**b)
        for i, length in enumerate(b["attention_mask"].sum(1).tolist()):
            original = b["labels"][i, :length].tolist()
            seen = output.encoder_ids[i, :length]
            places = [j for j in range(length) if masked[i, j] or mode != "masked_only"]
            read = [0, *(original[j] for j in places)][:-1]
            ids = {"input_ids": seen[None], "decoder_input_ids": torch.tensor([read])}
            found = model.main(**ids, output_hidden_states=True)
            encoded = found.encoder_last_hidden_state[0]
            decoded = found.decoder_hidden_states[-1][0]
            log_p = found.logits[0].log_softmax(-1)
            for row, j in enumerate(places):
                if masked[i, j] or mode == "all":
                    sums["lm"] -= float(log_p[row, original[j]])
                    counts["lm"] += 1
                    correct["lm"] += int(log_p[row].argmax()) == original[j]
            for name, hidden, head, where in (
                ("rtd", encoded, model.rtd_head, range(length)),
                ("rtd_decoder", decoded, model.rtd_decoder_head, places),
            ):
                for row, j in enumerate(where):
                    if target == "masked" and not masked[i, j]:
                        continue
                    score = float(head(hidden[row]))
                    replaced = int(seen[j]) != original[j]
                    sums[name] += math.log1p(math.exp(-score if replaced else score))
                    counts[name] += 1
                    correct[name] += (score >= 0) == replaced
    for name, value in sums.items():
        loss = getattr(output, name)
        assert loss.sum.item() == pytest.approx(value, rel=1e-5), name
        assert (int(loss.count), int(loss.correct)) == (counts[name], correct[name]), name


def test_a_simple_head_is_one_linear_layer() -> None:
    model = metro_model(rtd_head_kind="simple")
    assert {n for n, _ in model.rtd_head.named_parameters()} == {"output.weight", "output.bias"}
    deep = metro_model()
    width = MAIN["d_model"]
    assert sum(p.numel() for p in deep.rtd_head.parameters()) == (
        width * width + width + 2 * width + width + 1
    )


def draws(sampling: Sampling, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    count = len(targets)
    zero = torch.zeros(count, dtype=torch.int64)
    return Draw(sampling, 0, torch.arange(count), zero).sample(rows, targets)


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("forbidden", [(), (0, 5)])
def test_draws_have_the_distribution_of_the_allowed_tokens(
    top_k: int | None, exclude: bool, forbidden: tuple[int, ...]
) -> None:
    n = 40_000
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, 1.5, 0.9, -3.0])
    sampling = Sampling(
        temperature=0.7,
        top_k=top_k,
        exclude_original=exclude,
        forbidden=torch.tensor(forbidden, dtype=torch.int64),
    )
    drawn = draws(sampling, logits.expand(n, 8).contiguous(), torch.ones(n, dtype=torch.int64))
    allowed = [t for t in range(8) if t not in forbidden and not (exclude and t == 1)]
    if top_k:
        allowed = sorted(allowed, key=lambda t: -logits[t])[:top_k]
    weights = {t: math.exp(float(logits[t]) / 0.7) for t in allowed}
    total = sum(weights.values())
    shares = torch.bincount(drawn, minlength=8) / n
    for token in range(8):
        expected = weights.get(token, 0.0) / total
        # Five standard deviations of a share; a token that is not allowed is never drawn.
        assert abs(float(shares[token]) - expected) <= 5 * math.sqrt(expected / n), token


def test_forbidden_tokens_and_originals_are_not_drawn_by_the_model() -> None:
    forbidden = [MASK, *range(60, VOCAB)]
    model = metro_model(forbidden_token_ids=forbidden, exclude_original=True).eval()
    for epoch in range(20):
        output = model(**{**batch(), "epoch": epoch})
        assert not torch.isin(output.sampled_ids, torch.tensor(forbidden)).any()
        assert output.replaced.sum() == len(output.sampled_ids)
    # The loss is over the whole vocabulary all the same.
    assert torch.equal(output.mlm.sum, metro_model().eval()(**batch()).mlm.sum)


def test_eval_sampling_draws_without_dropout() -> None:
    options: dict[str, Any] = {"auxiliary": {"num_layers": 1, "dropout_rate": 0.5}}
    b = batch()
    model = metro_model(sampling_mode="eval", **options).train()
    still = metro_model(**options).eval()(**b).sampled_ids
    torch.manual_seed(1)
    output = model(**b)
    assert torch.equal(output.sampled_ids, still)
    assert model.auxiliary.training
    trained_mode = metro_model(**options).train()
    torch.manual_seed(1)
    noisy = trained_mode(**b)
    assert not torch.equal(noisy.sampled_ids, still)
    assert torch.equal(noisy.mlm.sum, output.mlm.sum)  # the loss keeps its dropout


def trained(folder: Path, steps: int, resume: bool = False, **options: Any) -> MetroTrainer:
    trainer = MetroTrainer(
        metro_model(**options),
        arguments(
            folder, per_device_train_batch_size=4, max_steps=steps, save_strategy="steps",
            save_steps=2, learning_rate=1e-2, lr_scheduler_type="constant",
        ),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def own(model: Any) -> dict[str, torch.Tensor]:
    shared = {id(p) for p in model.main.parameters()}
    return {
        n: p.detach().clone()
        for n, p in model.named_parameters()
        if n.startswith(("auxiliary.", "mlm_head.")) and id(p) not in shared
    }


def test_a_frozen_auxiliary_model_keeps_every_bit(tmp_path: Path) -> None:
    """Momentum and decay would move it under a gradient of 0."""
    before = own(trained(tmp_path / "a", 2, auxiliary_frozen_from=2).model)
    trainer = trained(tmp_path / "a", 6, resume=True, auxiliary_frozen_from=2)
    after = own(trainer.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(
        torch.equal(before[n], t) for n, t in own(trained(tmp_path / "b", 6).model).items()
    )
    lines = [line for line in trainer.state.log_history if "mlm_loss" in line]
    assert len(lines) == 6
    for line in lines:
        total = line["lm_loss"] + 50 * line["rtd_loss"]
        if line["step"] <= 2:
            total += line["mlm_loss"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
    # Interrupted in the frozen part, a run is bit for bit the unbroken one.
    unbroken = trained(tmp_path / "c", 6, auxiliary_frozen_from=2).model.state_dict()
    assert all(torch.equal(unbroken[n], t) for n, t in trainer.model.state_dict().items())


def test_a_dropped_auxiliary_model_leaves_the_masks(tmp_path: Path) -> None:
    model = metro_model(auxiliary_dropped_from=0)
    b = batch()
    output = model(**b, auxiliary="dropped")
    assert torch.equal(output.encoder_ids, b["input_ids"].where(b["attention_mask"].bool(), 0))
    assert output.replaced.flatten()[
        b["masked_positions"]
    ].all()  # a mask differs from the original
    assert (output.mlm.sum.item(), int(output.mlm.count)) == (0.0, 0)
    trainer = trained(tmp_path, 4, auxiliary_dropped_from=2)
    lines = [line for line in trainer.state.log_history if "lm_loss" in line]
    assert ["mlm_loss" in line for line in lines] == [True, True, False, False]
    assert ["aux_accuracy" in line for line in lines] == [True, True, False, False]


def test_disentangled_sharing_is_that_of_deberta(tmp_path: Path) -> None:
    """Against explicit tables E and D, where the main model reads E.detach() + D."""
    model = metro_model(embedding_sharing="disentangled")
    reference = copy.deepcopy(model)
    assert torch.equal(model.auxiliary.shared.weight, model.main.shared.weight)
    start = model.main.shared.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    follow_auxiliary(model, optimizer)

    delta = torch.nn.Parameter(torch.zeros_like(start))
    table = reference.main.shared.weight
    others = [p for p in reference.parameters() if p is not table]
    second = torch.optim.AdamW([*others, delta], lr=1e-2, weight_decay=0.0)
    for epoch in range(4):
        b = {**batch(), "epoch": epoch}
        output = model(**b)
        (output.mlm.sum + output.lm.sum + 50 * output.rtd.sum).backward()
        optimizer.step()
        optimizer.zero_grad()

        with torch.no_grad():
            table.copy_(reference.auxiliary.shared.weight + delta)
        output = reference(**b)
        (output.mlm.sum + output.lm.sum + 50 * output.rtd.sum).backward()
        delta.grad = table.grad.clone()
        second.step()
        second.zero_grad()
        table.grad = None
    with torch.no_grad():
        table.copy_(reference.auxiliary.shared.weight + delta)
    moved = (model.main.shared.weight - start).abs().max()
    assert moved > 1e-2
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, reference.state_dict()[name], rtol=0, atol=2e-5)
    # No gradient of the main model reaches the auxiliary table.
    output = model(**batch())
    (output.lm.sum + output.rtd.sum).backward()
    assert model.auxiliary.shared.weight.grad is None


def test_the_trainer_lets_the_main_table_follow(tmp_path: Path) -> None:
    trainer = trained(tmp_path, 1, embedding_sharing="disentangled", lm_weight=0, rtd_weight=0)
    start = metro_model(embedding_sharing="disentangled").main.shared.weight
    main, auxiliary = (m.shared.weight for m in (trainer.model.main, trainer.model.auxiliary))
    assert not torch.equal(main, start)
    torch.testing.assert_close(main, auxiliary, rtol=0, atol=1e-6)


def test_it_is_a_model_of_transformers(tmp_path: Path) -> None:
    model = metro_model()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MetroConfig)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path, attn_implementation="eager")
    assert isinstance(loaded, MetroForPretraining)
    for part in (loaded.auxiliary, loaded.main, loaded.main.encoder):
        assert part.config._attn_implementation == "eager"
    assert loaded.get_encoder() is loaded.main.encoder
    assert loaded.get_decoder() is loaded.main.decoder
    assert loaded.get_output_embeddings() is loaded.main.lm_head


@pytest.mark.parametrize("sharing", ["none", "token", "token_rel_norm", "disentangled"])
@pytest.mark.parametrize("size", [VOCAB - 7, VOCAB + 31])
def test_tables_and_heads_are_resized_together(size: int, sharing: str, tmp_path: Path) -> None:
    model = metro_model(embedding_sharing=sharing, forbidden_token_ids=[0, VOCAB - 1])
    kept = min(size, VOCAB)
    before = model.main.shared.weight[:kept].detach().clone()
    model.mlm_head.projection.bias.data.normal_()
    bias = model.mlm_head.projection.bias[:kept].detach().clone()
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == model.config.auxiliary.vocab_size == size
    assert torch.equal(model.main.shared.weight[:kept], before)
    assert torch.equal(model.mlm_head.projection.bias[:kept], bias)
    assert model.mlm_head.projection.weight is model.auxiliary.shared.weight
    assert (model.auxiliary.shared.weight is model.main.shared.weight) == sharing.startswith("tok")
    assert model.main.lm_head.weight is model.main.shared.weight
    assert model.main.shared.weight.shape[0] == model.main.lm_head.weight.shape[0] == size
    assert model.config.forbidden_token_ids == [t for t in (0, VOCAB - 1) if t < size]
    b = batch()
    b = {**b, "input_ids": b["input_ids"] % kept, "labels": b["labels"].where(b["labels"] < 0, 5)}
    model(**b).lm.sum.backward()
    model.save_pretrained(tmp_path)
    loaded = MetroForPretraining.from_pretrained(tmp_path)
    assert torch.equal(loaded.main.shared.weight, model.main.shared.weight)


@pytest.mark.slow  # dynamo traces three models
def test_graph_breaks_of_each_decoding_target(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for mode in MODES:
        torch._dynamo.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dynamo looks at .grad of every tensor that it meets
            explained = torch._dynamo.explain(metro_model(decoding_target=mode))(**batch())
        found[mode] = explained.graph_break_count
    with capsys.disabled():
        print(f"\ngraph breaks of a step: {found}")
    assert found == {"masked_only": 1, "all_masked_loss": 0, "all": 1}


def test_resuming_under_other_options_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, 2)
    with pytest.raises(MetroFastError, match=r"made with other options \(embedding_sharing: 'tok"):
        trained(tmp_path, 4, resume=True, embedding_sharing="token_rel_norm")
    with pytest.raises(MetroFastError, match=r"rtd_head: 'encoder' before, 'both' now"):
        trained(tmp_path, 4, resume=True, rtd_head="both")


def test_a_frozen_and_a_dropped_step_are_checked() -> None:
    config = metro_config(auxiliary_frozen_from=2, auxiliary_dropped_from=4)
    from metro_fast.metro.objectives import MetroObjective

    objective = MetroObjective(config)
    stages = []
    for step in range(6):
        objective.step = step
        stages.append(objective.auxiliary)
    assert stages == ["trained"] * 2 + ["frozen"] * 2 + ["dropped"] * 2

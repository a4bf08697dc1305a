"""The METRO model: ties, saving, draws, scores and refusals."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration

from metro_cases import MAIN, MASK, MetroCollator, Rows, metro_batch, metro_config, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroConfig, MetroForPretraining

SHARING = ("none", "token", "token_rel_norm", "disentangled")


def batch(**options: Any) -> dict[str, torch.Tensor]:
    return MetroCollator(**options)([Rows()[i] for i in range(4)])


def total(output: Any) -> torch.Tensor:
    return output.mlm.sum + output.lm.sum + 50 * (output.rtd.sum if output.rtd else 0)


@pytest.mark.parametrize("sharing", SHARING)
def test_save_and_load_keep_values_and_ties(sharing: str, tmp_path: Path) -> None:
    model = metro_model(embedding_sharing=sharing)
    model.save_pretrained(tmp_path)
    loaded = MetroForPretraining.from_pretrained(tmp_path)
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.config.to_diff_dict().keys() == model.config.to_diff_dict().keys()
    for part in ("main", "auxiliary"):
        found, expected = getattr(loaded.config, part), getattr(model.config, part)
        assert {**found.to_dict(), "dtype": None} == {**expected.to_dict(), "dtype": None}
    assert loaded.config.embedding_sharing == sharing
    for m in (model, loaded):
        bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        pairs = {
            "token": (m.auxiliary.shared.weight, m.main.shared.weight),
            "rel": (m.auxiliary.encoder.get_parameter(bias), m.main.encoder.get_parameter(bias)),
            "norm": (
                m.auxiliary.encoder.final_layer_norm.weight,
                m.main.encoder.final_layer_norm.weight,
            ),
        }
        tied = {name for name, (a, b) in pairs.items() if a is b}
        assert (
            tied
            == {
                "none": set(),
                "disentangled": set(),
                "token": {"token"},
                "token_rel_norm": {"token", "rel", "norm"},
            }[sharing]
        )
        assert m.auxiliary.encoder.embed_tokens.weight is m.auxiliary.shared.weight


def test_initial_weights_follow_t5_and_detection_starts_at_one_half() -> None:
    torch.manual_seed(0)
    model = MetroForPretraining(metro_config(embedding_sharing="none"))
    for stack in (model.auxiliary, model.main):
        assert stack.shared.weight.std().item() == pytest.approx(1.0, abs=0.05)
    output = model(**batch())
    assert output.rtd.sum.item() == pytest.approx(float(output.rtd.count) * np.log(2), rel=1e-5)
    assert (output.rtd_logits == 0).all()


def test_main_is_a_plain_t5(tmp_path: Path) -> None:
    model = metro_model()
    model.save_main(tmp_path / "main")
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "main")
    assert type(plain) is T5ForConditionalGeneration
    ids = torch.tensor([[5, 6, 7, 1]])
    expected = model.eval().main(input_ids=ids, decoder_input_ids=ids).logits
    assert torch.equal(plain.eval()(input_ids=ids, decoder_input_ids=ids).logits, expected)
    options = {"max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(ids, **options), plain.generate(ids, **options))


def test_unwritable_folder_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        metro_model().save_main(tmp_path / "file" / "main")


@pytest.mark.parametrize("options", [{}, {"decoding_target": "all"}, {"rtd_head": "none"}])
@pytest.mark.parametrize("unmasked", [(), (0, 1, 2, 3)], ids=["masked", "nothing_masked"])
def test_every_parameter_gets_a_gradient(
    options: dict[str, Any], unmasked: tuple[int, ...]
) -> None:
    model = metro_model(**options)
    output = model(**batch(unmasked=unmasked))
    total(output).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    if unmasked:
        assert output.mlm.sum.item() == 0
        assert output.sampled_ids.shape == (0,)
    if "rtd_head" in options:
        assert output.rtd is None
        assert output.rtd_logits is None


@pytest.mark.parametrize("target", ["all_masked_loss", "all"])
def test_sums_equal_those_of_the_plain_models(target: str) -> None:
    """Token by token, through transformers' own heads."""
    model, b = metro_model(decoding_target=target).eval(), batch()
    with torch.no_grad():
        output = model(**b)
        tokens = b["attention_mask"].bool()
        original = b["labels"].masked_fill(~tokens, 0)
        masked = torch.zeros_like(original, dtype=torch.bool).flatten()
        masked[b["masked_positions"]] = True
        masked = masked.view_as(original)
        mask = {"attention_mask": b["attention_mask"]}
        auxiliary = model.auxiliary(input_ids=b["input_ids"], **mask).last_hidden_state
        head = model.mlm_head
        rows = torch.relu(auxiliary @ head.dense.weight.T + head.dense.bias)
        rows = torch.nn.functional.layer_norm(
            rows, (MAIN["d_model"],)
        )  # gain 1 and bias 0 at first
        mlm = (rows * MAIN["d_model"] ** -0.5) @ model.auxiliary.shared.weight.T
        shifted = torch.cat([torch.zeros_like(original[:, :1]), original[:, :-1]], dim=1)
        encoded = model.main.encoder(input_ids=output.encoder_ids, **mask)
        decoded = model.main(encoder_outputs=encoded, decoder_input_ids=shifted, **mask).logits
        p = model.rtd_head(encoded.last_hidden_state).double().sigmoid().tolist()
    sums = dict.fromkeys(["mlm", "lm", "rtd"], 0.0)
    for i, j in tokens.nonzero().tolist():
        truth = int(original[i, j])
        if masked[i, j]:
            sums["mlm"] -= mlm[i, j].log_softmax(0)[truth].item()
        if masked[i, j] or target == "all":
            sums["lm"] -= decoded[i, j].log_softmax(0)[truth].item()
        replaced = int(output.encoder_ids[i, j]) != truth
        sums["rtd"] -= math.log(p[i][j] if replaced else 1 - p[i][j])
    for name, value in sums.items():
        assert getattr(output, name).sum.item() == pytest.approx(value, rel=1e-5), name


def test_bf16_autocast_keeps_the_sums_in_fp32() -> None:
    model, b = metro_model(), batch()
    exact = model(**b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**b)
    for name in ("mlm", "lm", "rtd"):
        value = getattr(output, name).sum
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(exact, name).sum.item(), rel=0.05)
    total(output).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_no_gradient_through_the_samples() -> None:
    model = metro_model(embedding_sharing="none")
    output = model(**batch())
    (output.lm.sum + output.rtd.sum).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.auxiliary.parameters())


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for enabled in (False, True):
        model = metro_model().train()
        if enabled:
            model.gradient_checkpointing_enable()
            assert model.auxiliary.encoder.block[0].gradient_checkpointing
            assert model.main.decoder.block[0].gradient_checkpointing
        total(model(**batch())).backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = gradient.abs().max().item()  # tied tensors add up in another order
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6 * scale)


def test_the_encoder_sees_samples_only_where_tokens_are_masked() -> None:
    b = batch()
    output = metro_model()(**b)
    rows, width = b["input_ids"].shape
    masked = b["masked_positions"]
    assert output.sampled_ids.shape == masked.shape
    assert output.encoder_ids.shape == output.replaced.shape == (rows, width)
    assert output.rtd_logits.shape == (rows, width)
    original = b["labels"].masked_fill(b["labels"] == -100, 0).flatten()
    seen = output.encoder_ids.flatten()
    assert torch.equal(seen[masked], output.sampled_ids)
    rest = torch.ones_like(seen, dtype=torch.bool)
    rest[masked] = False
    assert torch.equal(seen[rest], original[rest])
    assert MASK in b["input_ids"]
    assert output.replaced.sum() == (output.sampled_ids != original[masked]).sum()


def test_a_sample_equal_to_the_original_counts_as_original(monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch()
    original = b["labels"].flatten()[b["masked_positions"]]
    from metro_fast.ops import torch as registered

    predict = registered.linear_cross_entropy_sample
    monkeypatch.setattr(
        registered,
        "linear_cross_entropy_sample",
        lambda *tensors, **given: predict(*tensors, **given)._replace(sampled=original),
    )
    output = metro_model()(**b)
    assert not output.replaced.any()


def test_draws_depend_on_seed_epoch_sample_and_position_only() -> None:
    b = batch()
    model = metro_model().eval()
    drawn = model(**b).sampled_ids
    assert torch.equal(model(**b).sampled_ids, drawn)
    others = {
        "epoch": model(**{**b, "epoch": torch.tensor(1)}),
        "sample": model(**{**b, "sample_ids": b["sample_ids"] + 100}),
        "seed": metro_model(sampling_seed=1).eval()(**b),
    }
    for name, output in others.items():
        assert not torch.equal(output.sampled_ids, drawn), name


@pytest.mark.slow  # dynamo traces a T5 twice
def test_a_step_compiles_into_one_graph_that_reads_the_epoch_when_it_runs() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    model = metro_model()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    b = batch()
    fewer = {**b, "masked_positions": b["masked_positions"][1:], "num_masked": None}
    batches = [{**b, "epoch": torch.tensor(epoch)} for epoch in range(3)]
    counts, drawn = [], []
    for one in [*batches, fewer, {**fewer, "masked_positions": fewer["masked_positions"][1:]}]:
        output, expected = compiled(**one), model(**one)
        for name in expected:
            torch.testing.assert_close(output[name], expected[name])
        total(output).backward()
        counts.append(counter.frame_count)
        drawn.append(output.sampled_ids)
    # One more only where the number of masked tokens first changes; torch 2.10 needs two changes
    # to take it for a variable.
    assert counts[:4] == [1, 1, 1, 2]
    assert counts[4] <= (2 if Version(torch.__version__) >= Version("2.15") else 3)
    assert not torch.equal(drawn[0], drawn[1])


def test_padding_and_neighbors_change_nothing() -> None:
    model = metro_model().eval()
    rows = Rows()
    together = MetroCollator()([rows[i] for i in range(4)])
    output = model(**together)
    width = together["input_ids"].shape[1]
    sums = torch.zeros(3, dtype=torch.float64)
    for i in range(4):
        alone = model(**MetroCollator()([rows[i]]))
        mine = together["masked_positions"] // width == i
        assert torch.equal(alone.sampled_ids, output.sampled_ids[mine])
        sums += torch.stack([alone.mlm.sum, alone.lm.sum, alone.rtd.sum]).double()
    expected = torch.stack([output.mlm.sum, output.lm.sum, output.rtd.sum])
    torch.testing.assert_close(sums.float(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("main", {"model_type": "bert"}),
        ("embedding_sharing", "position"),
        ("embedding_sharing", "token_pos"),  # T5 has no absolute positions
        ("rtd_head", "cls"),
        ("decoding_target", "spans"),
        ("auxiliary", {"num_layers": 0}),
        ("auxiliary", {"dropout_rate": 1.0}),
        ("auxiliary", {"depth": 3}),
        ("auxiliary", {"d_model": 16}),
        ("forbidden_token_ids", [97]),
        ("sampling_top_k", 0),
        ("auxiliary_frozen_from", -1),
        ("rtd_weight", float("nan")),
        ("mlm_weight", -1.0),
        ("sampling_temperature", 0.0),
        ("sampling_seed", 2**63),
    ],
)
def test_config_refuses(option: str, value: Any) -> None:
    with pytest.raises(MetroFastError, match=option):
        metro_config(**{option: value})


def test_config_refuses_a_main_without_start_token_or_of_another_type() -> None:
    with pytest.raises(MetroFastError, match=r"decoder_start_token_id is 97"):
        metro_config(main={"decoder_start_token_id": 97})
    with pytest.raises(TypeError, match="expected a config"):
        MetroConfig(main=3)


def _change(name: str, change: Any) -> dict[str, torch.Tensor]:
    b = batch()
    return {**b, name: change(b[name])}


@pytest.mark.parametrize(
    ("name", "change", "error", "match"),
    [
        ("input_ids", lambda t: t.int(), TypeError, r"input_ids is torch.int32"),
        ("input_ids", lambda t: t[0], MetroFastError, r"input_ids has shape"),
        ("input_ids", lambda t: t + 97, MetroFastError, r"outside the vocabulary \[0, 97\)"),
        ("labels", lambda t: t[:, 1:], MetroFastError, r"labels has shape"),
        ("labels", lambda t: t * 97, MetroFastError, r"outside the vocabulary"),
        (
            "labels",
            lambda t: t.masked_fill(t == t[0, 0], -100),
            MetroFastError,
            r"other positions",
        ),
        ("attention_mask", lambda t: t.float(), TypeError, r"attention_mask is torch.float32"),
        ("masked_positions", lambda t: t + 10_000, MetroFastError, r"masked_positions span"),
        ("masked_positions", lambda t: t.flip(0), MetroFastError, r"ascending"),
        ("masked_positions", lambda t: t[:, None], MetroFastError, r"expected \[M\]"),
        ("masked_positions", lambda t: t.float(), TypeError, r"masked_positions is"),
        ("masked_positions", lambda t: t[:-1], MetroFastError, r"num_masked="),
        ("sample_ids", lambda t: t[:2], MetroFastError, r"sample_ids has shape \(2,\)"),
        ("sample_ids", lambda t: t - 1, MetroFastError, r"sample id -1 is negative"),
        ("num_labels", lambda t: t + 1, MetroFastError, r"num_labels="),
        ("num_encoder_tokens", lambda t: t - 1, MetroFastError, r"num_encoder_tokens="),
    ],
)
def test_forward_refuses(name: str, change: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        metro_model()(**_change(name, change))


def test_forward_refuses_masks_on_padding() -> None:
    original = np.array([[5, 6, 0, 0]])
    b = metro_batch(original, original == 6, [0])
    b["masked_positions"] = torch.tensor([3])
    with pytest.raises(MetroFastError, match="point at padding"):
        metro_model()(**b)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(MetroFastError, match="B, L >= 1"):
        metro_model()(**metro_batch(np.zeros((0, 4), int), np.zeros((0, 4), bool), []))


def test_config_example_keeps_main_widths() -> None:
    config = metro_config(auxiliary={"num_layers": 3})
    auxiliary = config.auxiliary
    assert (auxiliary.num_layers, auxiliary.dropout_rate) == (3, 0.0)
    assert (auxiliary.d_model, config.main.num_layers) == (MAIN["d_model"], MAIN["num_layers"])

"""experts.tune_compression: candidates equal compress's files; a stated rule picks the best."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import compress, fidelity, load_expert, task_vector, tune_compression
from metro_fast.experts.compression.rescaled import Rescaled
from metro_fast.experts.search.tuning_table import Candidate, Tuning

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")


def base():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.ReLU(), torch.nn.Linear(24, 8))


def adapted(seed: int, **more):
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["0", "2"], **more}
    model = peft.get_peft_model(base(), peft.LoraConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.eval()


INPUTS = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))


class Distance:
    def __init__(self, wanted, stop_at: int = -1):
        self.wanted = wanted(INPUTS).detach()
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, model) -> float:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return float((model(INPUTS) - self.wanted).detach().square().mean())


def lost(weights):
    return lambda expert: 1 - fidelity(weights, expert)[0].cosine


STATE = {
    "a.lora_A.weight": np.random.default_rng(0).standard_normal((4, 96)).astype(np.float32),
    "a.lora_B.weight": np.random.default_rng(1).standard_normal((64, 4)).astype(np.float32),
    "b.lora_A.weight": np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32),
    "b.lora_B.weight": np.zeros((64, 4), np.float32),
    "head.bias": np.ones(3, np.float32),
}


@pytest.mark.parametrize("scope", ["role", "global", "tensor"])
@pytest.mark.parametrize("quantize", ["compeft", "stc", "sign"])
def test_a_rescaled_expert_is_the_file_that_compress_writes(scope: str, quantize: str) -> None:
    vector = task_vector(STATE)
    alphas = (1, 0.3, 2.5, 7, "least_squares", 1.0) if quantize == "compeft" else (None,)
    for density in (1.0,) if quantize == "sign" else (0.05, 0.37, 1.0):
        packed = Rescaled(vector, density, quantize, scope)
        for alpha in alphas:
            expected = compress(
                vector, quantize=quantize, density=density, alpha=alpha, scope=scope
            )
            found = packed.at(alpha)
            assert np.array_equal(found.file, expected.file)
            assert found.estimated_fidelity == expected.estimated_fidelity


def test_a_float16_adapter_refuses_a_scale_that_it_cannot_hold() -> None:
    vector = task_vector({"m.lora_A.weight": np.float16([[30000, -1, 2, 3]])})
    packed = Rescaled(vector, 0.5)
    with pytest.raises(MetroFastError, match="float16, which cannot hold a scale"):
        packed.at(5)
    with pytest.raises(MetroFastError, match=r"alpha is 1e\+300"):
        packed.at(1e300)
    with pytest.raises(MetroFastError, match=r"alpha is -1\.0"):
        packed.at(-1)


def test_the_whole_grid_on_a_model() -> None:
    source = adapted(3)
    score = Distance(source)
    for model in (base(), adapted(7)):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = tune_compression(
            source, model, score, densities=(0.1, 0.5), alphas=(1, 2, "least_squares")
        )
        assert [(r.density, r.alpha) for r in found.rows] == [
            (d, a) for d in (0.1, 0.5) for a in (1.0, 2.0, "least_squares")
        ]
        assert found.original_score == 0.0
        assert found.original_nbytes == 4 * (4 * (16 + 24 + 24 + 8))
        for row in found.rows:
            expert = compress(source, density=row.density, alpha=row.alpha)
            assert row.nbytes == expert.nbytes
            # The same score as that of the loaded file.
            assert row.score == score(load_expert(base(), expert))
        assert found.best.score == min(row.score for row in found.rows)
        chosen = compress(source, density=found.best.density, alpha=found.best.alpha)
        assert np.array_equal(found.expert.file, chosen.file)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_heads_go_into_the_model_too() -> None:
    source = adapted(3, target_modules=["0"], modules_to_save=["2"])
    found = tune_compression(
        source, base(), Distance(source), densities=(1.0,), alphas=("least_squares",)
    )
    assert found.original_score == 0.0
    assert found.best.score == Distance(source)(load_expert(base(), found.expert))


def test_any_kind_through_a_function() -> None:
    weights = {"w": np.random.default_rng(0).standard_normal(512).astype(np.float32)}
    found = tune_compression(
        weights,
        lambda expert: expert,
        lost(weights),
        kind="full",
        densities=(0.1, 0.5),
        alphas=(1,),
    )
    assert found.original_score is None
    assert found.best.density == 0.5
    with pytest.raises(MetroFastError, match=r"kind 'full'.*pass a function"):
        tune_compression(weights, base(), lost(weights), kind="full")


def test_other_quantizers_do_not_have_alphas() -> None:
    weights = {"w": np.random.default_rng(0).standard_normal(512).astype(np.float32)}

    def rows(quantize: str) -> list:
        found = tune_compression(
            weights, lambda expert: expert, lost(weights), kind="other", quantize=quantize
        )
        return [(row.density, row.alpha) for row in found.rows]

    assert rows("stc") == [(d, None) for d in (0.05, 0.1, 0.2, 0.3, 0.5)]
    assert rows("sign") == [(1.0, None)]
    assert len(rows("compeft")) == 50


def row(density: float, nbytes: int, score: float) -> Candidate:
    return Candidate(density, 1.0, nbytes, 1.0, score)


def test_the_rule_and_the_front(tmp_path: Path) -> None:
    scores = iter([0.5, 0.5, 0.7, 0.7, 0.6])
    weights = {"w": np.random.default_rng(0).standard_normal(4096).astype(np.float32)}
    found = tune_compression(
        weights, lambda expert: expert, lambda expert: next(scores), kind="other",
        densities=(0.5, 0.2, 0.1, 0.3, 0.05), alphas=(1,), higher_is_better=True,
    )  # fmt: skip
    assert found.best.density == 0.1  # as good as 0.3, and smaller
    rows = (row(0.1, 10, 0.3), row(0.2, 20, 0.3), row(0.3, 30, 0.5), row(0.5, 25, 0.4))
    for sign, higher in ((1, True), (-1, False)):
        signed = tuple(row(r.density, r.nbytes, sign * r.score) for r in rows)
        table = Tuning(signed, signed[2], found.expert, sign * 0.6, 99, higher)
        assert [r.density for r in table.pareto] == [0.1, 0.5, 0.3]
    table.write_csv(tmp_path / "table.csv")
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [line["bytes"] for line in lines] == ["99", "10", "20", "30", "25"]
    assert [float(line["score"]) for line in lines] == [-0.6, -0.3, -0.3, -0.5, -0.4]


def test_erased_modules_are_named() -> None:
    state = dict(STATE) | {"b.lora_B.weight": np.full((64, 4), 1e-6, np.float32)}
    del state["head.bias"]
    found = tune_compression(
        state, lambda expert: expert, lambda expert: 0.0, densities=(0.05, 1.0), alphas=(1,)
    )
    assert found.rows[0].erased == ("b",)
    assert found.rows[1].erased == ()


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_an_interrupted_grid_continues(stop: int, tmp_path: Path) -> None:
    options = {"densities": (0.1, 0.5), "alphas": (1, 2, "least_squares")}
    whole = tune_compression(adapted(3), base(), Distance(adapted(3)), **options)
    model, log = base(), tmp_path / "log.jsonl"
    with pytest.raises(KeyboardInterrupt):
        tune_compression(
            adapted(3), model, Distance(adapted(3), stop_at=stop), resume=log, **options
        )
    with log.open("ab") as file:
        file.write(b'{"density": 0.1, "al')
    rest = Distance(adapted(3))
    done = tune_compression(adapted(3), model, rest, resume=log, **options)
    assert rest.calls == 7 - stop
    assert done.rows == whole.rows
    assert np.array_equal(done.expert.file, whole.expert.file)
    # A larger grid takes over the existing scores.
    more = Distance(adapted(3))
    tune_compression(adapted(3), model, more, resume=log, densities=(0.1, 0.2, 0.5), alphas=(1, 3))
    assert more.calls == 4
    for other, message in (
        ({"scope": "tensor"}, "its scope is"),
        ({"about": {"data": 1}}, "its data is null, that of this search is 1"),
    ):
        with pytest.raises(MetroFastError, match=message):
            tune_compression(adapted(3), model, rest, resume=log, **options, **other)
    with pytest.raises(MetroFastError, match="its source had other contents"):
        tune_compression(adapted(4), model, rest, resume=log, **options)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[2]["score"] = None
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(FormatError, match="line 3: score is None"):
        tune_compression(adapted(3), model, rest, resume=log, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"densities": ()}, "0 densities and"),
        ({"densities": (0.5, 0)}, "density is 0"),
        ({"densities": (0.5, 1.5)}, r"density is 1\.5"),
        ({"alphas": ()}, "and 0 alphas"),
        ({"alphas": (1, 0)}, "alpha is 0"),
        ({"alphas": (1, float("nan"))}, "alpha is nan"),
        ({"quantize": "prune"}, "quantize is 'prune'"),
        ({"scope": "layer"}, "scope is 'layer'"),
    ],
)
def test_settings_are_checked_before_anything_is_scored(options: dict, message: str) -> None:
    def never(model) -> float:
        raise AssertionError

    with pytest.raises(MetroFastError, match=message):
        tune_compression(STATE, never, never, **options)
    with pytest.raises(TypeError, match="alpha is 'two'"):
        tune_compression(STATE, never, never, alphas=("two",))
    with pytest.raises(TypeError, match="density is True"):
        tune_compression(STATE, never, never, densities=(True,))

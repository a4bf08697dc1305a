"""experts.compose_fewshot: sums of packed experts, resumed searches, unchanged models."""

import json
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError, MissingExtraError
from metro_fast.experts import compose_fewshot, compress, decompress, task_vector
from metro_fast.experts.search.summands import Summands, read_summand
from metro_fast.testing.weighted_sum import weighted_sum

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("nevergrad")

from compose_cases import CONFIGS, Distance, adapted, base, experts, search_that_dies
from warm_processes import start


def weights_of(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---- sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "ia3"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_packed_plain_and_mixed_sums_equal_those_of_whole_state_dicts(
    kind: str, count: int
) -> None:
    found = list(experts(count, kind).values())
    weights = np.random.default_rng(0).uniform(-1.5, 1.5, count)
    expected = weighted_sum([expert.arrays() for expert in found], weights.tolist())
    plain = [task_vector(expert.arrays()) for expert in found]
    for i, vector in enumerate(plain):
        object.__setattr__(vector, "config", found[i].config)
    mixed = [
        expert if i % 2 else vector
        for i, (expert, vector) in enumerate(zip(found, plain, strict=True))
    ]
    for sources in (found, plain, mixed):
        summands = Summands([str(i) for i in range(count)], sources)
        summands.add(np.zeros(count))
        summands.add(weights)
        vector = summands.vector()
        assert list(summands.shapes) == sorted(expected)
        for name, total in expected.items():
            np.testing.assert_allclose(summands.tensor(name), total, rtol=0, atol=1e-6)
            start = 1 if kind == "ia3" else 0
            np.testing.assert_allclose(vector.residuals[name].values, total - start, atol=1e-6)
    assert Summands(["a"], found[:1]).nbytes * 10 < Summands(["a"], plain[:1]).nbytes
    again = compress(vector, density=1.0)
    assert again.manifest.kind == kind
    assert again.config == found[0].config


def test_the_reported_memory() -> None:
    found = list(experts(4).values())
    summands = Summands(list("abcd"), found)
    trits = found[0].manifest.trits
    assert summands.nbytes == 4 * 2 * 8 * -(-trits // 64)
    assert summands.dense_nbytes == 4 * 4 * found[0].manifest.parameters


# ---- searches ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_the_weights_of_a_known_sum_are_found(kind: str) -> None:
    found = experts(3, kind)
    summands = Summands(list(found), list(found.values()))
    summands.add(np.array([0.8, 0.0, -0.5]))
    wanted = adapted(9, kind)
    vector = {n: torch.from_numpy(summands.tensor(n).copy()) for n in summands.shapes}
    peft.set_peft_model_state_dict(wanted, vector)
    model = adapted(7, kind).train()
    done = compose_fewshot(model, found, Distance(wanted), max_steps=150, l1=0.0, seed=3)
    np.testing.assert_allclose(list(done.weights.values()), [0.8, 0.0, -0.5], atol=0.1)
    assert done.score < 0.01 * done.history[0].score
    assert done.history[0].weights == (0.0, 0.0, 0.0)
    assert done.score == min(trial.score for trial in done.history)
    assert done.model is model
    assert not model.training
    # The model's weights are those that were scored.
    assert Distance(wanted)(model) == done.score
    state = peft.get_peft_model_state_dict(model)
    for name, residual in done.vector.residuals.items():
        start = 1 if kind == "ia3" else 0
        np.testing.assert_allclose(state[name].numpy(), residual.values + start, atol=1e-6)
    assert done.resident_bytes < done.dense_bytes
    assert done.mixing_seconds > 0


def test_a_plain_model_gets_an_adapter(tmp_path: Path) -> None:
    for name, expert in experts(2).items():
        expert.save(tmp_path / name)
    decompress(tmp_path / "e1", tmp_path / "plain")
    model = base()
    done = compose_fewshot(
        model, [tmp_path / "e0", tmp_path / "plain"], Distance(adapted(0)), max_steps=6
    )
    assert list(done.weights) == ["e0", "plain"]
    assert isinstance(done.model, peft.PeftModel)
    assert not any(parameter.requires_grad for parameter in done.model.parameters())
    assert Distance(adapted(0))(done.model) == done.score


def test_the_penalty_and_the_direction() -> None:
    calls = []

    def accuracy(model) -> float:
        calls.append(1)
        return 0.25 * len(calls)

    done = compose_fewshot(
        adapted(0), experts(2), accuracy, max_steps=4, higher_is_better=True, l1=0.5, init=1.0
    )
    assert done.history[0].weights == (1.0, 1.0)
    assert [trial.score for trial in done.history] == [0.25, 0.5, 0.75, 1.0]
    for trial in done.history:
        penalty = 0.5 * np.mean(np.abs(trial.weights))
        assert trial.objective == pytest.approx(-trial.score + penalty)
    assert done.score == min(done.history, key=lambda trial: trial.objective).score


@pytest.mark.parametrize("name", ["NGOpt", "OnePlusOne", "CMA"])
def test_equal_seeds_make_equal_searches(name: str) -> None:
    runs = [
        compose_fewshot(
            adapted(7), experts(3), Distance(adapted(0)), max_steps=12, seed=seed, optimizer=name
        ).history
        for seed in (5, 5, 6)
    ]
    assert runs[0] == runs[1]
    assert name == "NGOpt" or runs[0] != runs[2]


# ---- interruption --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["NGOpt", "CMA"])
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_an_interrupted_search_continues_to_the_same_result(
    name: str, stop: int, tmp_path: Path
) -> None:
    options = {"max_steps": 16, "seed": 2, "optimizer": name}
    whole = compose_fewshot(adapted(7), experts(3), Distance(adapted(0)), **options)
    model, log = adapted(7), tmp_path / "new" / "log.jsonl"
    before = weights_of(model)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        compose_fewshot(
            model, experts(3), Distance(adapted(0), stop_at=stop), resume=log, **options
        )
    assert same(weights_of(model), before)
    # A solver's thread is asked to end, and ends when its turn comes.
    for _ in range(300):
        if threading.active_count() <= threads:
            break
        time.sleep(0.1)
    assert threading.active_count() <= threads
    # The process may have died in the middle of a line.
    with log.open("ab") as file:
        file.write(b'{"step": 7, "wei')
    rest = Distance(adapted(0))
    done = compose_fewshot(model, experts(3), rest, resume=log, **options)
    assert rest.calls == 16 - stop
    assert done.history == whole.history
    assert done.weights == whole.weights
    assert same(weights_of(done.model), weights_of(whole.model))
    nothing = Distance(adapted(0))
    again = compose_fewshot(adapted(7), experts(3), nothing, resume=log, **options)
    assert nothing.calls == 0
    assert again.history == whole.history
    assert len(log.read_bytes().splitlines()) == 17


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    log, errors = tmp_path / "log.jsonl", tmp_path / "errors.txt"
    process = start(search_that_dies, log, number, errors=errors)
    process.join(120)
    assert process.exitcode == -number, errors.read_text()
    assert len(log.read_bytes().splitlines()) == 6
    rest = Distance(adapted(0))
    done = compose_fewshot(adapted(7), experts(3), rest, max_steps=16, resume=log)
    assert rest.calls == 11
    whole = compose_fewshot(adapted(7), experts(3), Distance(adapted(0)), max_steps=16)
    assert done.history == whole.history


@pytest.mark.parametrize("fail", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failure_leaves_the_model_unchanged(fail: type[BaseException]) -> None:
    def broken(model) -> float:
        raise fail

    model = adapted(7).train()
    before, modes = weights_of(model), [module.training for module in model.modules()]
    with pytest.raises(fail):
        compose_fewshot(model, experts(2), broken)
    assert same(weights_of(model), before)
    assert [module.training for module in model.modules()] == modes
    plain = base().train()
    before = weights_of(plain)
    with pytest.raises(fail):
        compose_fewshot(plain, experts(2), broken)
    assert same(weights_of(plain), before)
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert plain.training
    assert "peft_config" not in vars(plain)


# ---- refusals ------------------------------------------------------------------------------


def search(found=None, model=None, score=lambda model: 0.0, **options):
    return compose_fewshot(
        adapted(7) if model is None else model,
        experts(2) if found is None else found,
        score,
        **{"max_steps": 2, **options},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"bounds": (1.0, 1.0)}, "bounds are"),
        ({"bounds": (-1.0, float("inf"))}, "bounds are"),
        ({"init": 1.5}, r"init has 1\.5"),
        ({"init": {"e0": 0.1}}, "init has no number.*e1"),
        ({"optimizer": "gradient"}, "optimizer is 'gradient'"),
        ({"score": lambda model: float("nan")}, "the score is nan"),
        ({"score": lambda model: float("inf")}, "the score is inf"),
        ({"found": {}}, "no experts"),
    ],
)
def test_settings_are_checked(options: dict, message: str) -> None:
    with pytest.raises(MetroFastError, match=message):
        search(**options)


def test_a_score_that_is_not_a_number() -> None:
    with pytest.raises(TypeError, match="the score is None"):
        search(score=lambda model: None)
    with pytest.raises(TypeError, match="expected a path, a PeftModel or a state dict"):
        search([3])


def test_experts_that_do_not_fit_each_other() -> None:
    one = compress(adapted(0), density=0.5)
    other_rank = compress(adapted(1, r=2), density=0.5)
    with pytest.raises(
        MetroFastError, match=r"lora_A.weight has shape \(2, 16\) in expert b.*rank"
    ):
        search({"a": one, "b": other_rank})
    other_scaling = compress(adapted(1, lora_alpha=4), density=0.5)
    with pytest.raises(MetroFastError, match="expert b scales 0 by 1, expert a by 2"):
        search({"a": one, "b": other_scaling})
    with pytest.raises(MetroFastError, match="expert b has kind 'ia3', expert a has kind 'lora'"):
        search({"a": one, "b": compress(adapted(0, "ia3"), density=0.5)})
    fewer = compress(adapted(0, target_modules=["0"]), density=0.5)
    with pytest.raises(MetroFastError, match=r"only one of the experts a and b has .*2\.lora_A"):
        search({"a": one, "b": fewer})
    weights = {"w": np.ones(64, np.float32)}
    with pytest.raises(MetroFastError, match="kind 'other'"):
        search({"a": compress(weights, kind="other", density=1.0, alpha="least_squares")})
    state = peft.get_peft_model_state_dict(adapted(0)) | {"head.weight": torch.ones(2)}
    with pytest.raises(MetroFastError, match=r"dense tensor head\.weight"):
        search({"a": compress(state, density=0.5)})


def test_models_that_do_not_fit() -> None:
    with pytest.raises(MetroFastError, match=r"has shape \(4, 16\) in the experts, \(2, 16\)"):
        search(model=adapted(0, r=2, lora_alpha=4))
    with pytest.raises(MetroFastError, match="scaled by 1 in the model, by 2 in the experts"):
        search(model=adapted(0, lora_alpha=4))
    with pytest.raises(MetroFastError, match="lacks"):
        search(model=adapted(0, target_modules=["0"]))
    merged = adapted(0)
    merged.merge_adapter()
    with pytest.raises(MetroFastError, match="merged"):
        search(model=merged)
    two = adapted(0)
    two.add_adapter("second", CONFIGS["lora"]())
    two.base_model.set_adapter(["default", "second"])
    with pytest.raises(MetroFastError, match="active adapters"):
        search(model=two)
    with pytest.raises(MetroFastError, match="does not fit the model"):
        search(model=torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)}))
    bare = {name: read_summand(dict(e.arrays())) for name, e in experts(2).items()}
    with pytest.raises(MetroFastError, match=r"no adapter_config\.json"):
        search(bare, base())


def test_a_file_of_another_search_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    search(resume=log, about={"examples": "abc"})
    content = log.read_bytes()
    for options, message in (
        ({"seed": 1}, "its seed is 0, that of this search is 1"),
        ({"max_steps": 3}, "its max_steps is 2, that of this search is 3"),
        ({"found": experts(3)}, "its experts is"),
        ({"about": {"examples": "abd"}}, 'its examples is "abc", that of this search is "abd"'),
    ):
        with pytest.raises(MetroFastError, match=message):
            search(**{"resume": log, "about": {"examples": "abc"}, **options})
    assert log.read_bytes() == content
    rows = [json.loads(line) for line in content.splitlines()]
    for damaged, message in (
        (b"hello", "not the file of a search"),
        (b"hello\n", "line 1: not JSON"),
        (b"[]\n", "not a JSON object"),
        (content.replace(b'"score": 0.0', b'"score": "0"'), "line 2: score is '0'"),
        (content.replace(b'"weights": [0.0, 0.0]', b'"weights": 3'), "line 2: weights is 3"),
    ):
        log.write_bytes(damaged)
        with pytest.raises(FormatError, match=message):
            search(resume=log, about={"examples": "abc"})
        assert log.read_bytes() == damaged
    rows[1]["weights"] = [0.5, 0.5]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(MetroFastError, match="step 0 of the file has other weights"):
        search(resume=log, about={"examples": "abc"})


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[compose\]'"):
        search()


def test_the_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    search(progress=True)
    shown = capsys.readouterr().err
    assert "compose" in shown
    assert "2/2" in shown
    search()
    assert capsys.readouterr().err == ""

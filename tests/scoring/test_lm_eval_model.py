"""The model `metro_fast` of lm-eval against its own model `hf`, on the same tasks."""

import json

import pytest
import torch

from naive_scorer import WORDS, causal_model, causal_tokenizer, make_questions

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval (0.4.13) is not installed")
pytest.importorskip("lm_eval.tasks")
huggingface = pytest.importorskip("lm_eval.models.huggingface")

from metro_fast import MetroFastError
from metro_fast.scoring.lm_eval_model import MetroFastLM

MANAGER = lm_eval.tasks.TaskManager(include_defaults=False)


@pytest.fixture(autouse=True)
def without_the_list_of_the_environment(monkeypatch):
    """It takes lm-eval seconds each time, as reading all its own tasks does (see `MANAGER`)."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


@pytest.fixture
def tasks(tmp_path):
    """A task by choices, one by whether a text is the most likely one, and one by generation."""
    rows = [
        {"q": q.input, "options": q.choices, "gold": number % 2, "target": q.choices[0]}
        for number, q in enumerate(make_questions(24))
    ]
    # An empty prompt, and white space at an end.
    rows[0]["q"], rows[1]["q"] = "", rows[1]["q"] + " "
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test", "doc_to_text": "{{q}}",
    }  # fmt: skip
    ranked = {"task": "ranked", "output_type": "multiple_choice", "doc_to_choice": "{{options}}",
              "doc_to_target": "{{gold}}",
              "metric_list": [{"metric": m} for m in ("acc", "acc_norm", "exact_match")],
              }  # fmt: skip
    exact = {"task": "exact", "output_type": "loglikelihood", "doc_to_target": " {{target}}",
             "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}]}  # fmt: skip
    written = {"task": "written", "output_type": "generate_until", "doc_to_text": "{{q}} the",
               "doc_to_target": "{{target}}", "metric_list": [{"metric": "exact_match"}],
               "generation_kwargs": {"until": [" cat", "red"], "max_gen_toks": 6}}  # fmt: skip
    return [shared | task for task in (ranked, exact, written)]


def models(kind, tiny_t5, tiny_tokenizer):
    if kind == "t5":
        return tiny_t5, tiny_tokenizer, "seq2seq"
    tokenizer = causal_tokenizer(WORDS, start=False)
    tokenizer.pad_token = "</s>"
    return causal_model(kind, len(tokenizer)), tokenizer, "causal"


def numbers(found, task):
    return {k: v for k, v in found["results"][task].items() if isinstance(v, float | int)}


@pytest.mark.parametrize("kind", ["t5", "rotary", "learned"])
def test_equal_to_its_own_model(kind, tasks, tiny_t5, tiny_tokenizer):
    model, tokenizer, backend = models(kind, tiny_t5, tiny_tokenizer)
    peer = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=4,
                            device="cpu")  # fmt: skip
    ours = MetroFastLM(model, tokenizer=tokenizer)
    found, expected = (
        lm_eval.simple_evaluate(
            lm, tasks=[dict(task) for task in tasks], bootstrap_iters=0, task_manager=MANAGER
        )
        for lm in (ours, peer)
    )
    for task in ("ranked", "exact", "written"):
        assert numbers(found, task) == pytest.approx(numbers(expected, task), rel=1e-4)
        for a, b in zip(found["samples"][task], expected["samples"][task], strict=True):
            assert a["arguments"] == b["arguments"]
            for left, right in zip(a["filtered_resps"], b["filtered_resps"], strict=True):
                if task == "written":
                    # lm-eval lets a T5 write as many tokens more as its input has.
                    assert left == right or (kind == "t5" and right.startswith(left))
                else:
                    assert float(left[0]) == pytest.approx(float(right[0]), abs=1e-4)
                    assert left[1] == right[1]
    answers = [sample["filtered_resps"][0] for sample in found["samples"]["written"]]
    assert len(set(answers)) > 3


def naive_greedy(kind, model, tokenizer, text, answer):
    """Whether each token of the answer is the most likely one, in one whole forward."""
    source = tokenizer(text)["input_ids"]
    with torch.no_grad():
        if kind == "t5":
            target = tokenizer(answer, add_special_tokens=False)["input_ids"]
            ids, labels = torch.tensor([source]), torch.tensor([target])
            best = model(input_ids=ids, labels=labels).logits[0].argmax(-1)
        else:
            target = tokenizer(text + answer)["input_ids"][len(source) :]
            logits = model(torch.tensor([(source + target)[:-1]])).logits[0]
            best = logits[len(source) - 1 :].argmax(-1)
    return len(target), best.tolist() == target


@pytest.mark.parametrize("kind", ["t5", "rotary"])
def test_greedy_continuations_are_known(kind, tiny_t5, tiny_tokenizer):
    """Answers that the model writes, and those with another last word."""
    from lm_eval.api.instance import Instance

    model, tokenizer, _ = models(kind, tiny_t5, tiny_tokenizer)
    lm = MetroFastLM(model, tokenizer=tokenizer)
    inputs = [question.input for question in make_questions(40)]
    asked = [Instance("generate_until", {}, (text, {"max_gen_toks": 3}), 0) for text in inputs]
    pairs = []
    for text, answer in zip(inputs, lm.generate_until(asked), strict=True):
        answer = " " + answer.strip()
        pairs += [(text, answer), (text, answer.rpartition(" ")[0] + " cat")]
    expected = [naive_greedy(kind, model, tokenizer, *pair) for pair in pairs]
    assert {(length > 1, greedy) for length, greedy in expected} >= {(True, True), (True, False)}
    found = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_found_by_its_name(tasks, tiny_t5, tiny_tokenizer, tmp_path, caplog):
    tiny_t5.save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "t5")
    found = lm_eval.simple_evaluate(
        "metro_fast", model_args={"pretrained": str(tmp_path / "t5")}, tasks=[tasks[0]],
        bootstrap_iters=0, device="cpu", batch_size=8, task_manager=MANAGER,
    )  # fmt: skip
    assert found["n-samples"]["ranked"]["effective"] == 24
    assert "batch_size=8 is not used" in caplog.text


def test_an_adapter_counts(tiny_t5, tiny_tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    from lm_eval.api.instance import Instance

    for name in ("t5", "adapter"):
        tiny_tokenizer.save_pretrained(tmp_path / name)
    tiny_t5.save_pretrained(tmp_path / "t5")
    config = peft.LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False)
    peft.get_peft_model(tiny_t5, config).save_pretrained(tmp_path / "adapter")
    asked = [Instance("loglikelihood", {}, ("the capital of france is", " a city"), 0)]
    names = {"pretrained": str(tmp_path / "t5"), "peft": str(tmp_path / "adapter")}
    peer = huggingface.HFLM(**names, backend="seq2seq", device="cpu").loglikelihood(asked)
    assert MetroFastLM(**names).loglikelihood(asked)[0][0] == pytest.approx(peer[0][0], abs=1e-4)
    plain = MetroFastLM(names["pretrained"]).loglikelihood(asked)
    assert plain[0][0] != pytest.approx(peer[0][0], abs=1e-2)


def test_what_it_does_not_do_is_refused(tiny_t5, tiny_tokenizer):
    from lm_eval.api.instance import Instance

    lm = MetroFastLM(tiny_t5, tokenizer=tiny_tokenizer)
    text = Instance("loglikelihood_rolling", {}, ("the cat",), 0, metadata=("wikitext", 0, 1))
    with pytest.raises(MetroFastError, match="the tasks wikitext ask for the likelihood of whole"):
        lm.loglikelihood_rolling([text])
    for settings in ({"do_sample": True}, {"temperature": 0.7}, {"num_beams": 2}, {"typical_p": 1}):
        asked = Instance("generate_until", {}, ("the cat", settings), 0, metadata=("gsm8k", 0, 1))
        with pytest.raises(
            MetroFastError, match=f"task gsm8k generates with {next(iter(settings))}="
        ):
            lm.generate_until([asked])
    with pytest.raises(TypeError, match="give its tokenizer too"):
        MetroFastLM(tiny_t5)

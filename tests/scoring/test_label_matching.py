"""The label that a written answer names: letters and their texts, relations, negations."""

from dataclasses import replace

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.prompts import Prompt
from metro_fast.scoring import PROTOCOLS, Engine, match_label
from naive_scorer import WORDS, causal_model, causal_tokenizer

CITIES = ["Paris", "Rome", "Oslo", "New York"]
VITAMINS = ["vitamin C", "vitamin A", "sugar", "iron"]


@pytest.mark.parametrize(
    ("text", "texts", "expected"),
    [
        ("Paris", CITIES, 0),
        ("paris.", CITIES, 0),
        ("B. Rome", CITIES, 1),
        ("(B) Rome", CITIES, 1),
        ("b) rome", CITIES, 1),
        ("**B.** Rome", CITIES, 1),
        ("The answer is Rome.", CITIES, 1),
        ("Answer: new-york", CITIES, 3),
        ("It is Rome, which is not Paris", CITIES, 1),
        ("Not Paris but Oslo", CITIES, 2),
        ("not (A), but (C)", CITIES, 2),
        ("Parisian", CITIES, -1),
        ("Berlin", CITIES, -1),
        # A letter that contradicts its text wins, as where a reader of answers knows only letters.
        ("B. Paris", CITIES, 1),
        ("(d) Oslo", CITIES, 3),
        ("Paris is right, so the answer is C", CITIES, 2),
        # A letter inside of the text of an option is not a letter of an option.
        ("It is vitamin C", VITAMINS, 0),
        ("vitamin A", VITAMINS, 1),
        ("C. Vitamin C", VITAMINS, 2),
        ("not vitamin C, but iron", VITAMINS, 3),
        ("The answer is B cells.", ["B cells", "T cells", "A", "none"], 0),
        ("B", ["B", "A", "C", "D"], 1),
        ("A is right", CITIES, 0),
        ("Option A seems right", CITIES, 0),
        ("A because it is larger", CITIES, 0),
        ("The answer is b because it is larger", CITIES, 1),
        ("choice c fits", CITIES, 2),
        ("the answer is a city: D", CITIES, 3),
        ("A capital is Oslo", CITIES, 2),
        # The longest at the same place.
        ("Paris and Rome", ["Paris", "Paris and Rome", "Rome", "neither"], 1),
        # Texts that name two options, or none.
        ("It is twelve", ["twelve", "Twelve.", "ten", "..."], -1),
        ("It is ten", ["twelve", "Twelve.", "ten", "..."], 2),
        ("B", ["x", "x", "x", "x"], 1),
        ("It is (a)", ["", " ", "?", "!"], 0),
    ],
)
def test_letters_and_the_texts_behind_them(text: str, texts: list[str], expected: int) -> None:
    assert match_label(text, ["A", "B", "C", "D"], texts) == expected


@pytest.mark.parametrize(
    "text",
    ["I'm not sure", "it's", "I don't", "the B-cell", "The U.S. city", "from the U.S", "A dog",
     "I think so", "the word(s) that follow", "Answers", "B2"],
)  # fmt: skip
def test_letters_of_english_words_are_not_answers(text: str) -> None:
    assert match_label(text, list("ABCDEFGHIJKLMNOPQRSTU")) == -1


RELATIONS = ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other", "Instrument-Agency(e2,e1)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cause-Effect (e1, e2)", 0),
        ("cause-effect(e1,e2)", 0),
        ("Cause Effect(e1,e2)", 0),
        ("CauseEffect (e2,e1)", 1),
        ("cause_effect ( E2 , E1 )", 1),
        ("The relation is Cause\u2013Effect(e2, e1).", 1),
        ("Cause - Effect(e2,\ne1)", 1),
        ("Relation: instrument agency (e2, e1)", 3),
        # Without its direction a name is one of two labels, and a part of one is neither.
        ("Cause-Effect", -1),
        ("The relation is cause-effect.", -1),
        ("Cause-Effect(e1", -1),
        ("Instrument-Agency(e1,e2)", -1),
        ("Cause-Effect(e1,e22)", -1),
        ("Other-Agency", -1),
        ("the other-agency relation", -1),
        ("Mother", -1),
        ("Other", 2),
        ("other: it is not one of them", 2),
        ("not Other but Cause-Effect(e2,e1)", 1),
        # The first of several.
        ("Cause-Effect(e2,e1) or Cause-Effect(e1,e2)", 1),
    ],
)
def test_names_of_relations(text: str, expected: int) -> None:
    assert match_label(text, RELATIONS) == expected


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("per: city of birth", ["per:city_of_birth", "no_relation"], 0),
        ("There is no relation.", ["per:city_of_birth", "no_relation"], 1),
        ("not entailment", ["entailment", "not_entailment"], 1),
        ("it is non-entailment", ["entailment", "neutral"], -1),
        ("part-of", ["part of", "part-of"], 1),
        ("it is part_of it", ["part of", "part-of"], 0),
        ("it is 3.5", ["3", "3.5"], 1),
        ("it is 3.5", ["3", "5"], -1),
        ("it is -3", ["3", "5"], -1),
        ("5 - 3 is 2", ["-3", "2"], 1),
        ("it is \u22123", ["3", "-3"], 1),
        ("about 1,000 of them", ["1", "1,000"], 1),
        ("it is 3.", ["3", "5"], 0),
        ("ISTANBUL, \u0130stanbul: B", ["A", "B"], 1),
    ],
)
def test_other_labels(text: str, labels: list[str], expected: int) -> None:
    assert match_label(text, labels) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not positive", -1),
        ("This isn't positive", -1),
        ("It isn\u2019t a positive review.", -1),
        ("no, not a positive review", -1),
        ("never positive", -1),
        ("It has no positive side", -1),
        ("NOT **positive**", -1),
        ('It is **not** "positive"', -1),
        ("It cannot be positive", -1),
        ("not a very positive review", -1),
        ("neither positive nor negative", -1),
        ("non-positive", -1),
        ("not positive, negative", 1),
        ("It is not negative. It is positive.", 0),
        ("positive, not negative", 0),
        # The negation must be directly before the label.
        ("No, positive", 0),
        ("not only positive", 0),
        ("I do not know. Positive", 0),
        ("a knot positive", 0),
        ("positive or negative", 0),
        ("negative and positive", 1),
    ],
)
def test_negated_labels_are_passed_over(text: str, expected: int) -> None:
    assert match_label(text, ["positive", "negative"]) == expected


def test_as_many_texts_as_labels() -> None:
    with pytest.raises(MetroFastError, match="4 labels and 1 texts; give one text for each label"):
        match_label("A", ["A", "B", "C", "D"], ["Paris"])


def test_the_engine_reads_the_texts_behind_letters() -> None:
    tokenizer = causal_tokenizer(WORDS)
    engine = Engine(causal_model("rotary", len(tokenizer)), tokenizer)
    protocol = PROTOCOLS["generate_match"]
    ask, letters = "cat", ("A", "B")
    (free,) = engine.answer([Prompt(ask, (), None)], protocol)
    assert free.text is not None
    prompts = [
        Prompt(ask, letters, 0, texts=texts)
        for texts in ((), ("never", free.text), (free.text, "never"), (free.text, free.text))
    ]
    found = [outcome.prediction for outcome in engine.answer(prompts, protocol)]
    assert found == [-1, 1, 0, -1]
    # Where the protocol puts letters in place of texts, these are the choices themselves.
    by_letters = replace(protocol, letters=True)
    prompts = [Prompt(ask, ("never", free.text), 0), Prompt(ask, letters, 0), prompts[1]]
    found = [outcome.prediction for outcome in engine.answer(prompts, by_letters)]
    assert found == [1, -1, 1]
    with pytest.raises(MetroFastError, match="2 labels and 1 texts"):
        engine.answer([Prompt(ask, letters, 0, texts=("one",))], protocol)

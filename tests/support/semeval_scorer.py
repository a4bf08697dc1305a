"""SemEval-2010 Task 8's score by an independent reading of its scorer, and random input."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence


def scorer_v1_2(proposed: Mapping[int, str], answers: Mapping[int, str]) -> float:
    """The official score as the scorer's own text has it: two tables of counts, then a loop.

    Wrong directions go to a column of their own and are added to the guesses of the right
    relation; the loop runs over the labels of the answers, and the division is by their number,
    less one for `_Other`. (The scorer was run on 200 such subsets besides: equal to two decimals.)
    """
    table: dict[tuple[str, str], int] = defaultdict(int)
    proposed_count: dict[str, int] = defaultdict(int)
    answer_count: dict[str, int] = defaultdict(int)
    for number, label in proposed.items():
        bare, right = label.partition("(")[0], answers[number].partition("(")[0]
        column = "WRONG_DIR" if bare == right and label != answers[number] else bare
        table[column, right] += 1
        proposed_count[column] += 1
    for label in answers.values():
        answer_count[label.partition("(")[0]] += 1
    total = 0.0
    for label in sorted(answer_count.keys() - {"_Other"}):
        wrong = table["WRONG_DIR", label]
        guessed = proposed_count[label]
        precision = 0.0 if guessed == 0 else 100 * table[label, label] / (guessed + wrong)
        recall = 100 * table[label, label] / answer_count[label]
        if precision + recall:
            total += 2 * precision * recall / (precision + recall)
    distinct = len(answer_count) - ("_Other" in answer_count)
    return total / distinct


def random_subset(seed: int) -> tuple[list[str], list[str]]:
    """8 to 50 items over 19 labels; half of the answers are right, some are skipped."""
    draw = random.Random(seed)
    names = "Cause-Effect Component-Whole Content-Container Entity-Destination Entity-Origin "
    names += "Instrument-Agency Member-Collection Message-Topic Product-Producer"
    labels = [f"{n}({d})" for n in names.split() for d in ("e1,e2", "e2,e1")] + ["Other"]
    gold = [draw.choice(labels) for _ in range(draw.choice((8, 20, 30, 50)))]
    predicted = [
        g if draw.random() < 0.5 else draw.choice([*labels, "", g.replace("(e1,e2)", "(e2,e1)")])
        for g in gold
    ]
    return gold, predicted


def official(gold: Sequence[str], predicted: Sequence[str]) -> float:
    key = {i: "_Other" if g == "Other" else g for i, g in enumerate(gold)}
    given = {i: "_Other" if p == "Other" else p for i, p in enumerate(predicted) if p}
    return scorer_v1_2(given, key)

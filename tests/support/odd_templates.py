"""Templates that pry, differ from run to run, fail, or come close to the limits; and an item.

The tables are as those of `hostile_templates`.
"""

from typing import Any

from hostile_templates import CHARACTERS, HUGE, PLAIN, STEPS, SYNTAX, Attacks

DEEP: list[Any] = ["x"]
for _ in range(300):
    DEEP = [DEEP]

FIELDS: dict[str, Any] = {
    "word": "good",
    "text": "lorem <b>ipsum</b> http://a.b " * 3000,
    "numbers": list(range(2000)),
    "rows": [{"name": f"n{i % 7}", "size": i} for i in range(500)],
    "table": {"one": 1, "two": [2, {"three": "3"}]},
    "emoji": "😀" * 60_000,
    "nul": "\x00" * 90_000,
    "aaaa": "a" * 2400,
    "deep": DEEP,
}

REFUSED: Attacks = {
    "'lipsum' is undefined": {
        "lipsum": "{{ lipsum(5) }}",
        "lipsum globals": "{{ lipsum.__globals__['os'].environ }}",
    },
    "attribute '__init__' of 'StrictUndefined'": {
        "cycler init": "{{ cycler.__init__.__globals__ }}",
    },
    "uses self": {
        "self": "{{ self.__init__.__globals__ }}",
        "self, printed": "{{ self }}",
    },
    "uses the filter 'attr'": {
        "attr filter": "{{ word|attr('__class__') }}",
    },
    "a value of type function is not callable": {
        "format attribute": "{{ '{0.__class__}'.format(word) }}",
        "format_map attribute": "{{ '{a.__class__}'.format_map({'a': word}) }}",
    },
    "uses the filter 'format'": {
        "format attribute, filter": "{{ '{0.__class__}'|format(word) }}",
    },
    "a value of type function can neither": {
        "indirect format": "{{ {'f': '{0.__class__.__mro__}'.format}['f'](word) }}",
        "global, printed": "{{ range }}",
    },
    "No filter named 'format'.": {
        "mapped format": "{{ ['{0.__class__}']|map('format', word)|list }}",
    },
    "attribute '__class__' of 'str'": {
        "class": "{{ word.__class__.__mro__ }}",
        "class by subscript": "{{ word['__class__'] }}",
    },
    "attribute '__init__' of 'type'": {
        "namespace internals": "{{ namespace.__init__.__globals__ }}",
    },
    "attribute '__class__' of 'function'": {
        "range class": "{{ range.__class__ }}",
    },
    "attribute '_iterator' of 'LoopContext'": {
        "loop internals": "{% for a in word %}{{ loop._iterator }}{% endfor %}",
    },
    "a value of type LoopContext can neither": {
        "loop, printed": "{% for a in word %}{{ loop }}{% endfor %}",
    },
    "a value of type builtin_function_or_method can neither": {
        "method, printed": "{{ word.upper }}",
    },
    "a value of type Namespace can neither": {
        "namespace, printed": "{{ namespace(a=1) }}",
        "namespace of itself": "{% set n = namespace() %}{% set n.n = n %}{{ n }}{{ n.n|string }}",
        "namespace in a list": "{% set n = namespace() %}{% set n.n = [n] %}{{ n.n }}",
    },
    "'nosuch' is undefined": {
        "undefined name": "{{ nosuch }}",
        "undefined call": "{{ nosuch() }}",
    },
    "unsupported operand type(s) for -: 'list' and 'list'": {
        "set by difference": "{{ ({'one': 1, 'two': 2}.keys() - [])|join }}",
    },
    "not valid Unicode text": {
        "half of a pair": "{{ '\\ud800' }}",
        "half of a pair by slices": "{{ '\\ud83d\\ude00'[:1] }}",
    },
    PLAIN: {
        "half of a pair in a list": "{{ ['\\udfff']|tojson }}",
        "float overflow": "{{ 1e308 * 10 }}",
    },
    "attribute 'append' of 'list'": {
        "append": "{{ numbers.append(1) }}",
    },
    "attribute 'update' of 'dict'": {
        "update": "{{ table.update({'a': 1}) }}",
    },
    "uses {% autoescape %}": {
        "autoescape": "{% autoescape true %}{{ '<' ~ word }}{% endautoescape %}",
    },
    "division by zero": {
        "division": "{{ 1 / 0 }}",
    },
    "integer modulo by zero": {
        "remainder": "{{ 1 % 0 }}",
    },
    "uses **": {
        "power of zero": "{{ 0 ** -1 }}",
    },
    'can only concatenate str (not "int") to str': {
        "type error": "{{ word + 1 }}",
    },
    "'int' object is not iterable": {
        "not iterable": "{% for a in 5 %}{% endfor %}",
        "choice of a number": "{{ 5|choice }}",
    },
    "unhashable type: 'list'": {
        "unhashable": "{{ {[]: 1} }}",
        "most frequent of lists": "{{ [[1]]|most_frequent }}",
    },
    "cannot unpack non-iterable int object": {
        "unpacking": "{% for a, b in numbers %}{% endfor %}",
    },
    "choice of an empty sequence": {
        "choice of nothing": "{{ []|choice }}",
    },
    "'<' not supported between instances of 'str' and 'in": {
        "mixed sort": "{{ [1, 'a']|sort }}",
    },
    "No filter named 'nosuch'.": {
        "filter by an unknown name": "{{ numbers|map('nosuch')|list }}",
    },
    "No filter named ' size'.": {"map size": "{{ numbers|map(' size')|list|length }}"},
    "No filter named ' each'.": {"map each": "{{ [[1]]|map(' each', -1000000000, 0)|list }}"},
    "No test named 'nosuch'.": {
        "test by an unknown name": "{{ numbers|select('nosuch')|list }}",
    },
    "No filter named 5.": {
        "filter by a number": "{{ numbers|map(5)|list }}",
    },
    "No first item, sequence was empty.": {
        "stop iteration": "{{ []|first }}",
    },
    "uses the filter 'indent'": {
        "negative width": "{{ word|indent(-5) ~ word.split('o', -5)[7] }}",
    },
    "'now' is undefined": {
        "date": "{{ now() }}{{ strftime_now('%Y') }}",
    },
}

LIMITS: Attacks = {
    PLAIN: {
        "grow and print": "{% set ns = namespace(x=emoji) %}{% for i in range(5) %}"
        "{% set ns.x = ns.x ~ emoji %}{{ ns.x }}{% endfor %}",
        "print emoji": "{% for i in range(66) %}{{ emoji }}{% endfor %}",
        "print emoji ok": "{% for i in range(30) %}{{ emoji }}{% endfor %}",
        "title emoji": "{{ emoji.replace('😀', '😀 ')|title|length }}",
        "wordcount emoji": "{{ emoji.replace('😀', 'é ')|wordcount }}",
        "upper ß": "{{ emoji.replace('😀', 'ΐ').upper()|length }}",
        **{
            f"millions: {end}": "{% set t = emoji * 10 %}{{ (" + end + ")|length }}"
            for end in (
                "t|default('a.b.c')",
                "t|reverse",
                "t|first",
                "t|last",
                "t[::-1]",
                "t|truncate(9)",
                "t|trim",
                "t|upper",
                "t|string",
                "t.title()",
            )
        },
        "startswith tuple": "{{ aaaa.startswith(('b',) * 10000) }}",
        "method of list": "{{ [1, 2].index(2) }}{{ numbers.count(5) }}",
        "views": "{{ table.keys()|list }}{{ table.items()|list }}",
        "deep field": "{{ deep }}",
        "deep compare": "{{ deep == deep }}{{ deep|tojson }}",
        "deep literal": "{% set ns = namespace(x=[]) %}{% for i in range(300) %}"
        "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "deep literal compare": "{% set ns = namespace(x=[], y=[]) %}{% for i in range(200) %}"
        "{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "sum lists": "{{ [[1, 2], [3]]|sum(start=[]) }}",
        "cycle": "{% for a in word %}{{ loop.cycle(1, 2) }}{% endfor %}",
        "nan": "{{ 1e308 * 10 - 1e308 * 10 }}",
        "nan sort": "{{ [1e308 * 10 - 1e308 * 10, 1]|sort }}",
        "undefined picked": "{{ [word, nosuch][0] }}",
        "big int compare": "{{ (('f' * 90000)|int(base=16)) > 5 }}",
        "round ceil": "{{ 1.5|round(300, 'ceil') }}{{ 5|round(300, 'floor') }}",
        "method of a filter": "{{ (word|upper).lower() }}",
        "filter block": "{% filter upper %}{{ word }}{% endfilter %}",
        "filter block join": "{% filter join(',') %}{{ word }}{% endfilter %}",
        "set block": "{% set a | upper %}{{ word }}{% endset %}{{ a }}",
        "with": "{% with a = word, b = 2 %}{{ a }}{{ b }}{% endwith %}",
        "set loop": "{% set loop = 1 %}{{ loop }}",
        "near the limits": "{{ word }}" * 990,
        "parentheses, 60": "{{ " + "(" * 60 + "1" + ")" * 60 + " }}",
        "tildes below": "{{ 1" + "~1" * 900 + " }}",
        "comparisons below": "{{ 1" + " < 1" * 900 + " }}",
        "loops, 8": "{% for a in word[:1] %}" * 8 + "{{ a }}" + "{% endfor %}" * 8,
        "conditions, 8": "{% if word %}" * 8 + "x" + "{% endif %}" * 8,
        "elifs below": "{% if word == 1 %}"
        + "{% elif word == 2 %}" * 350
        + "{% else %}x{% endif %}",
        "literals": "{{ [" + "[1]," * 600 + "]|length }}",
        "spaces": "{{ " + " " * 99_000 + " word }}",
        "minus spaces": "{{- word -}}" + "\n " * 45000 + "{{- word -}}",
        "backslashes": "{{ '" + "\\" * 99_000 + "' }}",
        "name of python": "{% set import = 1 %}{{ import }}{% set def = 2 %}{{ def }}",
        "same for target": "{% for a, a in [[1, 2]] %}{{ a }}{% endfor %}",
        "with same": "{% with a=1, a=2 %}{{ a }}{% endwith %}",
        "keyword context": "{{ dict(context=1, self=2, function=3, environment=4) }}",
        "line statements": "# for a in b\n{{ word }}",
        "getitem attr": "{{ word['upper']() }}",
        "attribute numbers": "{{ numbers.0 }}",
        "default of unsafe": "{{ word.__class__|default('x') }}",
        "groups": "{{ ['B', 'a', 'b']|unique|list }}{{ ['B', 'a']|sort }}"
        "{{ {'b': 1, 'a': 2}|dictsort }}{{ [1, 2]|first }}{{ {'a': 1}|items|list }}",
        "replace by keywords": "{{ word|replace(new='u', old='o') }}{{ 12|replace(1, 2, 1) }}",
        "slice of a constant": "{{ 'abc'[1:] }}{{ [1, 2][:1] }}{{ (1, 2)[::-1] }}",
        "bool key": "{{ {true: 1, 1: 2} }}",
        "none key": "{{ {none: 1} }}",
        "not in": "{{ 'a' not in word }}{{ not 'a' in word }}",
        "tests": "{{ 5 is in numbers }}"
        "{{ word is string and 5 is number and nosuch is undefined and [] is sequence }}"
        "{{ table is mapping }}{{ nosuch is defined }}{{ nosuch|default('d') }}",
    },
    CHARACTERS: {
        "replace growth by keywords": "{{ text|replace(new=text, old='o')|length }}",
        "millions: join": "{% set t = emoji * 10 %}{{ t.join(t) }}",
        "repr nul": "{% for i in range(20) %}{{ [nul] }}{% endfor %}",
        "find quadratic": "{% set n = 'a' * 1199 ~ 'b' %}{% for i in range(9999) %}"
        "{% if n in aaaa %}x{% endif %}{% endfor %}",
        "find method": "{% set n = 'a' * 60 ~ 'b' %}{% for i in range(3000) %}"
        "{{ aaaa.find(n) }}{% endfor %}",
        "in short": "{% set n = 'a' * 60 ~ 'b' %}{% for i in range(3000) %}{% if n in aaaa %}"
        "{% endif %}{% endfor %}",
        "in short big": "{% set n = 'a' * 62 ~ 'b' %}{% set t = 'a' * 29000 %}"
        "{% for i in range(3000) %}{% if n in t %}{% endif %}{% endfor %}",
        "rfind": "{% set n = 'b' ~ 'a' * 60 %}{% set t = 'a' * 29000 %}"
        "{% for i in range(3000) %}{{ t.rfind(n) }}{% endfor %}",
        "rfind big": "{% set n = 'b' ~ 'a' * 20000 %}{% set t = 'a' * 60000 %}"
        "{% for i in range(900) %}{{ t.rfind(n) }}{% endfor %}",
        "count big": "{% set n = 'a' * 62 ~ 'b' %}{% set t = 'a' * 29000 %}"
        "{% for i in range(3000) %}{{ t.count(n) }}{% endfor %}",
        "strip chars": "{% set n = 'b' * 60 ~ 'a' %}{% set t = 'a' * 60000 %}"
        "{% for i in range(900) %}{{ t.strip(n) }}{% endfor %}",
        "trim chars": "{% set n = 'b' * 60 ~ 'a' %}{% set t = 'a' * 60000 %}"
        "{% for i in range(900) %}{{ t|trim(n) }}{% endfor %}",
        "replace many": "{% set n = 'a' * 62 ~ 'b' %}{% set t = 'a' * 29000 %}"
        "{% for i in range(3000) %}{{ t|replace(n, '') }}{% endfor %}",
        "int print": "{% set n = ('f' * 3500)|int(base=16) %}{% for a in range(9999) %}{{ n }}"
        "{% endfor %}",
        "int parse": "{% set s = '9' * 4000 %}{% for a in range(9999) %}{{ s|int > 5 }}"
        "{% endfor %}",
        "float parse": "{% set s = '9' * 400000 %}{% for a in range(9999) %}{{ s|float > 5 }}"
        "{% endfor %}",
    },
    STEPS: {
        "list emoji": "{{ (emoji ~ emoji ~ emoji)|list|length }}",
        "split emoji": "{{ emoji.replace('😀', '😀 ').split()|length }}",
        **{
            f"millions: {end}": "{% set t = emoji * 10 %}{{ " + end + " }}"
            for end in (
                "t|list",
                "t|sort",
                "t|unique",
                "t|join",
                "t|map('upper')",
                "t|select",
                "t|max",
                "t|choice",
                "t|most_frequent",
                "zip(t, t)",
                "','.join(t)",
                "t|sum",
                "t.split('😀')",
                "dict(t)",
                "namespace(t)",
                "t|dictsort",
                "t|reject",
                "t|min",
            )
        },
        "select in": "{{ numbers|select('in', numbers)|list|length }}",
        "zero path": "{{ rows|map(attribute='name" + ".0" * 5000 + "')|list|length }}",
        "zero path, sort": "{{ rows|sort(attribute='name" + ".0" * 5000 + "')|length }}",
        "zero path, join": "{{ rows|join(attribute='name" + ".0" * 5000 + "') }}",
        "zero path, sum": "{{ rows|sum(attribute='name" + ".0" * 5000 + "') }}",
        "zero path, selectattr": "{{ rows|selectattr('name" + ".0" * 5000 + "')|list }}",
        "zero path, max": "{{ rows|max(attribute='name" + ".0" * 5000 + "') }}",
        "zero path, unique": "{{ rows|unique(attribute='name" + ".0" * 5000 + "')|list }}",
        "sum lists big": "{{ ([numbers] * 90)|sum(start=[])|length }}",
        "zip growth": "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}"
        "{% set ns.x = zip(ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
        "dict growth": "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}"
        "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
        "long loop of numbers": "{% for a in range(60000) %}{{ a }}{% endfor %}",
        "many tojson in a loop": "{% for a in range(9999) %}{{ word|tojson }}{{ word|title }}"
        "{{ word|truncate(1) }}{% endfor %}",
        "many sorts": "{% for a in range(9999) %}{{ [3, 2, 1]|sort(attribute='a')|join }}"
        "{% endfor %}",
        "many maps": "{% for a in range(9999) %}{{ [3, 2, 1]|map('string')|join(',') }}"
        "{% endfor %}",
        "many failing": "{% for a in range(9999) %}{{ a is divisibleby 3 }}"
        "{{ a|default('x', true)|string }}{% endfor %}",
        "many choices": "{% for a in range(9999) %}{{ numbers|choice }}{% endfor %}",
        "many text numbers": "{% for a in range(30000) %}{{ 1.5e300 }}{% endfor %}",
        "int in loop": "{% set n = ('f' * 90000)|int(base=16) %}{% for a in range(9999) %}"
        "{% if n - a == n %}x{% endif %}{% endfor %}",
        "int mod in loop": "{% set n = ('f' * 90000)|int(base=16) %}"
        "{% set m = ('e' * 45000)|int(base=16) %}{% for a in range(9999) %}{% if n % m == a %}x"
        "{% endif %}{{ n // m == 7 }}{% endfor %}",
        "near the limits 2": "{% if word == 1 %}a{% elif word in numbers %}b{% endif %}" * 140,
        "near the limits 3": (
            "{% for a in word %}" * 8
            + "{{ [a, word[0]][0] ~ a ~ (a|upper) }}" * 5
            + "{% endfor %}" * 8
        )
        * 20,
    },
    "'str object' has no attribute 'name'": {
        "map deep path": "{{ rows|map(attribute='" + "name." * 10 + "0')|list }}",
    },
    "a value of type Namespace can neither": {
        "namespace growth": "{% set ns = namespace(x=1) %}{% for i in range(40) %}"
        "{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    },
    "dictionary update sequence element #0 has length 1;": {
        "namespace keys": "{{ namespace([['a', 1]]).a }}{{ namespace('ab') }}",
    },
    "no items for cycling given": {
        "cycle none": "{% for a in word %}{{ loop.cycle() }}{% endfor %}",
    },
    "attribute 'changed' of 'LoopContext'": {
        "changed": "{% for a in word %}{{ loop.changed(1) }}{% endfor %}",
    },
    "a value of type LoopContext is not callable": {
        "loop called": "{% for a in word %}{{ loop(a) }}{% endfor %}",
    },
    "there is no previous item": {
        "previtem": "{% for a in word %}{{ loop.previtem }}{% endfor %}",
    },
    "'nosuch' is undefined": {
        "undefined in a list": "{{ [nosuch] }}",
        "undefined rounded": "{{ nosuch|round }}{{ nosuch is odd }}",
        "undefined replaced": "{{ nosuch|replace('a', 'b') }}",
        "undefined joined": "{{ [[nosuch]]|join }}",
    },
    "attribute 'encode' of 'str'": {
        "bytes": "{{ word.encode() }}",
    },
    "attribute 'to_bytes' of 'int'": {
        "int method": "{{ (5).to_bytes(1000000000, 'big') }}",
    },
    "attribute 'hex' of 'float'": {
        "float hex": "{{ (1.5).hex() }}",
    },
    "of a str": {
        "odd text": "{{ '%1000000000d' is odd }}",
        "even text": "{{ '%1000000000d' is even }}",
        "divisible text": "{{ '%*d' is divisibleby((1000000000, 1)) }}",
        "selected text": "{{ ['%1000000000d']|select('odd')|list }}",
        "round text, floor": "{{ 'x'|round(9, 'floor') }}",
        "round text, ceil": "{{ word|round(9, method='ceil') }}",
        "absolute text": "{{ word|abs }}",
    },
    "'int' object is not subscriptable": {
        "slice of a number": "{{ 5[1:] }}",
        "slice of a negative number": "{{ (-1)[1:] }}",
    },
    "texts have no sum; join them": {
        "sum strings": "{{ (['a'] * 1000)|sum(start='')|length }}",
    },
    "it has a number of more than 4,300 digits": {
        "big int constant": "{{ 0x" + "f" * 90000 + " }}",
        "digits 2": "{{ " + "1" * 99000 + "e }}",
        "under": "{{ " + "1_" * 49000 + " }}",
    },
    "Exceeds the limit (4300 digits) for integer string c": {
        "big int base": "{{ ('f' * 90000)|int(base=16) + 1 }}",
    },
    "bad operand type for abs(): 'str'": {
        "round text": "{{ 1.5|round('a') }}",
    },
    "method must be common, ceil or floor": {
        "round method": "{{ 1.5|round(1, 'nosuch') }}",
    },
    "a value of type int is not callable": {
        "call of a number": "{{ 5() }}",
    },
    "a value of type list is not callable": {
        "call of a list": "{{ numbers() }}",
    },
    "a value of type str is not callable": {
        "call of a text": "{{ word() }}",
    },
    "a value of type NoneType is not callable": {
        "call of none": "{{ none() }}",
    },
    "unpacks arguments by *": {
        "star args": "{{ zip(*rows) }}",
        "star kwargs": "{{ dict(**table) }}",
        "filter star": "{{ word|replace(*['o', 'a']) }}",
    },
    "expressions and texts; give at most 2,000": {
        "many filters in a loop": "{% for a in range(9999) %}"
        + "{{ word|upper|lower|trim }}" * 500
        + "{% endfor %}",
    },
    "integer division result too large for a float": {
        "int divided": "{% set n = ('f' * 90000)|int(base=16) %}{{ n / 7 }}",
    },
    "int too large to convert to float": {
        "int as float": "{{ ('f' * 90000)|int(base=16)|float }}",
    },
    "has more than 10,000 words": {
        "tokens": "{{ 1 }}" * 12_000,
        "tokens 2": "{% if word %}" * 5000 + "{% endif %}" * 2000,
        "braces": "{" * 99_000,
        "percents": "{% " * 33_000,
        "quotes": "{{ '" * 20_000,
        "floats": "{{ " + "1." * 49000 + " }}",
    },
    "blank input": {
        "many small loops": "{% for a in word %}{% endfor %}" * 390,
        "many sets": "".join(f"{{% set a{i} = [word] %}}" for i in range(390)),
        "comment end": "{# -" * 24000 + "#}",
    },
    "its expressions or blocks are nested too deep": {
        "parentheses below the limits": "{{ " + "(" * 4000 + "1" + ")" * 4000 + " }}",
        "lists below": "{{ " + "[" * 4000 + "]" * 4000 + " }}",
        "not below": "{{ " + "not " * 4000 + "1 }}",
        "loops below": "{% for a in word %}" * 500 + "{% endfor %}" * 500,
    },
    "nests more than 50 expressions": {
        "lists, 60": "{{ " + "[" * 60 + "]" * 60 + " }}",
        "sums below": "{{ 1" + "+1" * 2000 + " }}",
        "ands below": "{{ 1" + " and 1" * 2000 + " }}",
        "filters below": "{{ word" + "|trim" * 2400 + " }}",
        "subscripts below": "{{ word" + "[0]" * 1800 + " }}",
        "calls below": "{{ word" + "()" * 3000 + " }}",
        "attributes below": "{{ word" + ".a" * 3000 + " }}",
    },
    "line 1 is not valid Jinja2 (": {
        "block spaces": "{%" + " " * 99000 + "if %}",
        "hashes": "{# " * 30000,
        "raw end": "{% raw %}" + "{% endra" * 12000,
        "set None": "{% set None = 1 %}",
        "set True": "{% for True in word %}{% endfor %}",
    },
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": {
        "names": "{{ " + "a" * 99_000 + " }}",
    },
    "'ªµ' is undefined": {
        "unicode names": "{{ ªµ }}",
    },
    "got multiple values for argument 's'": {
        "keyword value": "{{ word|replace(s=1, old=2) }}",
    },
    "line 1 has an argument whose name begins with _": {
        "keyword loop vars": "{% for a in word %}{{ dict(_loop_vars=1) }}{% endfor %}",
    },
    "'caller' is undefined": {
        "caller": "{{ caller() }}",
    },
    "'varargs' is undefined": {
        "varargs": "{{ varargs }}{{ kwargs }}",
    },
    "'context' is undefined": {
        "context": "{{ context }}",
    },
    "'environment' is undefined": {
        "environment": "{{ environment }}",
    },
    "'l_0_word' is undefined": {
        "undefined names of python": "{{ l_0_word }}{{ resolve }}{{ t_1 }}",
    },
    "'str object' has no attribute 'mro'": {
        "attribute mro": "{{ word.mro }}{{ dict.fromkeys }}",
    },
    "attribute 'fromkeys' of 'type'": {
        "dict fromkeys": "{{ dict.fromkeys(word) }}",
    },
    "a value of type builtin_function_or_method can neither": {
        "map attr method": "{{ ['a']|map(attribute='upper')|list }}",
    },
    "line 1 compares by `in` in a chain; write `a in b an": {
        "chained": "{{ 1 < 2 < 3 }}{{ 'a' in 'ab' in 'abc' }}",
    },
}


HOSTILE: dict[str, tuple[str, str]] = {
    f"{kind}: {name}": (text, ending)
    for kind, endings in (
        ("huge", HUGE),
        ("syntax", SYNTAX),
        ("refused", REFUSED),
        ("limits", LIMITS),
    )
    for ending, templates in endings.items()
    for name, text in templates.items()
}

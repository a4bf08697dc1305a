"""Templates by someone who means harm, by how each must end, and an item that they are filled with.

`PLAIN` is the text of plain Jinja2; every other ending is a part of the one error.
"""

Attacks = dict[str, dict[str, str]]

PLAIN = ""
STEPS = "more than 100,000 steps"
CHARACTERS = "more than 4,000,000 characters"
_NEST = 100_000

HUGE: Attacks = {
    "uses the filter 'center'": {
        "center filter": "{{ word|center(10**9) }}",
        "center filter, plain number": "{{ word|center(1000000000) }}",
    },
    "attribute 'center' of 'str'": {
        "center method": "{{ word.center(1000000000) }}",
    },
    "attribute 'ljust' of 'str'": {
        "ljust": "{{ word.ljust(1000000000) }}",
    },
    "attribute 'rjust' of 'str'": {
        "rjust": "{{ word.rjust(1000000000) }}",
    },
    "attribute 'zfill' of 'str'": {
        "zfill": "{{ word.zfill(1000000000) }}",
    },
    "attribute 'expandtabs' of 'str'": {
        "expandtabs": "{{ '\t'.expandtabs(1000000000) }}",
    },
    "a value of type function is not callable": {
        "format method width": "{{ '{:1000000000}'.format(word) }}",
        "format method nested width": "{{ '{:{}}'.format(word, 1000000000) }}",
        "format method precision": "{{ '{:.1000000000f}'.format(1.5) }}",
        "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    },
    "uses the filter 'format'": {
        "format filter width": "{{ '%1000000000s'|format(word) }}",
        "format filter star": "{{ '%*d'|format(1000000000, 5) }}",
        "format filter precision": "{{ '%.1000000000f'|format(1.5) }}",
    },
    "a text may not be formatted by %; join the parts by": {
        "percent": "{{ '%1000000000s' % word }}",
        "percent star": "{{ '%*s' % (1000000000, word) }}",
    },
    CHARACTERS: {
        "multiplied text": "{{ word * 1000000000 }}",
        "doubling by tilde": "{% set ns = namespace(x=word) %}{% for i in range(40) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}",
        "doubling by plus": "{% set ns = namespace(x=word) %}{% for i in range(40) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
        "doubling by join": "{% set ns = namespace(x=word) %}{% for i in range(40) %}"
        "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}",
        "doubling by a block": "{% set a %}{{ word }}{% endset %}"
        + "".join(f"{{% set a %}}{{{{ a }}}}{{{{ a }}}}{{% endset %}}{i}" for i in range(40))
        + "{{ a|length }}",
        "replace growth": "{{ text|replace('o', text)|replace('e', text)|length }}",
        "replace method growth": "{{ text.replace('', text) }}",
        "join method growth": "{{ text.join(text)|length }}",
    },
    STEPS: {
        "multiplied list": "{{ ([1] * 1000000000)|length }}",
        "doubling of a list": "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
        "doubling by nesting": "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}"
        "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "doubling by nesting, compared": "{% set ns = namespace(x=[1], y=[1]) %}"
        "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}"
        "{% endfor %}{{ ns.x == ns.y }}",
        "doubling by nesting, a key": "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}"
        "{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1}|length }}",
        "doubling by objects": "{% set ns = namespace(x={}) %}{% for i in range(40) %}"
        "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
        "join growth": "{{ numbers|join(text)|length }}",
        "range list": "{{ range(1000000000)|list|length }}",
        "range nests": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}"
        "{% endfor %}",
        "range nests without output": "{% for a in range(9999) %}{% for b in range(9999) %}"
        "{% for c in range(9999) %}{% if c > 99999 %}x{% endif %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        "range sums": "{{ range(99999)|map('string')|map('center', 99999)|join|length }}",
        "long loop of long text": "{% for a in range(99999) %}" + "y" * 10_000 + "{% endfor %}",
        "long loop of a field": "{% for a in range(99999) %}{{ text }}{% endfor %}",
        "long loop in a block": "{% set s %}{% for a in range(99999) %}"
        + "y" * 10_000
        + "{% endfor %}{% endset %}{{ s|length }}",
        "long loop in a filter block": "{% filter length %}{% for a in range(99999) %}"
        + "y" * 10_000
        + "{% endfor %}{% endfilter %}",
        "long loop of comparisons": "{% for a in range(99999) %}"
        "{% if text + 'a' == text + 'b' %}x{% endif %}{% endfor %}",
        "long loop of slices": "{% for a in range(99999) %}{% if text[1:] %}{% endif %}"
        "{% endfor %}",
        "long loop of sorts": "{% for a in range(9999) %}{% if numbers|sort %}{% endif %}"
        "{% endfor %}",
        "unique of many": "{% for a in range(9999) %}{{ numbers|unique|list|length }}{% endfor %}",
        "map of a long path": "{{ rows|map(attribute='" + "a." * 20_000 + "b')|list|length }}",
        "namespace loop": "{% set ns = namespace(n=0) %}{% for a in range(99999) %}"
        "{% for b in range(99999) %}{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}{{ ns.n }}",
    },
    "uses **": {
        "power": "{{ 9 ** 9 ** 9 }}",
        "power, one step": "{{ (10 ** 4000000)|string|length }}",
    },
    "uses the filter 'indent'": {
        "indent filter": "{{ text|indent(100000000) }}",
        "indent by lines": "{{ ('a\n' * 10000)|indent(100000) }}",
        "indent of many lines": "{{ numbers|join('\n')|indent(1000000, true) }}",
    },
    "a product has more than 10,000 bits": {
        "squaring a number": "{% set ns = namespace(x=10) %}{% for i in range(40) %}"
        "{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x|string|length }}",
    },
    "uses the filter 'batch'": {
        "batch": "{{ [1]|batch(1000000000, 'x')|list|length }}",
    },
    "uses the filter 'slice'": {
        "slice": "{{ [1]|slice(1000000000)|list|length }}",
    },
    "uses the filter 'wordwrap'": {
        "wordwrap": "{{ (text|replace(' ', ''))|wordwrap(1, true, text) }}",
    },
    "_tojson() got an unexpected keyword argument 'indent": {
        "tojson indent": "{{ table|tojson(indent=1000000000) }}",
    },
    "uses the filter 'pprint'": {
        "pprint": "{{ rows|pprint|length }}{{ (numbers * 1000)|pprint|length }}",
    },
    "round to 1000000000 places; give at most 300": {
        "round precision": "{{ 1.5|round(1000000000) }}",
    },
    "has more than 10,000 words": {
        "long loop of conditions": "{% for a in range(99999) %}"
        + "{% if word %}{% endif %}" * 2000
        + "{% endfor %}",
    },
    "expressions and texts; give at most 2,000": {
        "long loop of lookups": "{% for a in range(99999) %}"
        + "{{ table.two[1].three }}" * 500
        + "{% endfor %}",
    },
    "uses the filter 'groupby'": {
        "groupby in loops": "{% for a in range(9999) %}{% for g in rows|groupby('name') %}"
        "{{ g.list|length }}{% endfor %}{% endfor %}",
    },
    "uses the filter 'xmlattr'": {
        "xmlattr": "{{ {'a': text * 9999}|xmlattr }}",
    },
    "uses the filter 'urlize'": {
        "urlize": "{{ (text * 300)|urlize }}",
        "urlize brackets": "{{ ('(' * 100000 ~ 'http://a.b' ~ ')' * 100000)|urlize|length }}",
    },
    "uses the filter 'striptags'": {
        "striptags quadratic": "{{ ('<!--' * 200000)|striptags }}",
    },
    "expected length >= 90000": {
        "truncate": "{{ text|truncate(10, true, text, 0)|length }}",
    },
    "empty separator": {
        "split": "{{ text.split('')|length }}{{ (text * 999).split(' ')|length }}",
    },
    "attribute 'translate' of 'str'": {
        "translate": "{{ text.translate({108: text}) }}",
    },
    PLAIN: {
        "int of many digits": "{{ ('9' * 100000)|int }}",
    },
    "uses {% macro %}": {
        "macro recursion": "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "macro doubling": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
        "{% endmacro %}{{ m(60) }}",
        "call recursion": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{% call m() %}"
        "{% endcall %}{% endcall %}",
    },
    "uses {% block %}": {
        "self block": "{% block b %}{{ self.b() }}{% endblock %}",
    },
    "line 1 has a recursive loop, which an instruction ma": {
        "recursive loop": "{% for a in [numbers] recursive %}{{ loop([a, a]) }}{% endfor %}",
    },
    "uses {% import %}": {
        "import of itself": "{% import 'x' as y %}{{ y }}",
    },
    "uses {% include %}": {
        "include": "{% include '/etc/passwd' %}",
    },
    "uses {% extends %}": {
        "extends": "{% extends '/etc/passwd' %}",
    },
}

SYNTAX: Attacks = {
    "characters; give at most 100,000": {
        "parentheses": "{{ " + "(" * _NEST + "1" + ")" * _NEST + " }}",
        "lists": "{{ " + "[" * _NEST + "]" * _NEST + " }}",
        "minus": "{{ " + "-" * _NEST + "1 }}",
        "expressions": "{{ word }}" * 40_000,
        "tags not closed": "{% if word %}" * 8000,
        "digits, many": "{{ " + "1_" * 50_000 + "1 }}",
        "text of 10 MB": "a" * 10_000_000,
        "expression of 10 MB": "{{ '" + "a" * 10_000_000 + "' }}",
        "lines": "{{ word }\n" * 10_000 + "}}",
    },
    "has more than 10,000 words": {
        "objects": "{{ " + "{1:" * 20_000 + "1" + "}" * 20_000 + " }}",
        "not": "{{ " + "not " * 20_000 + "1 }}",
        "sums": "{{ 1" + "+1" * 40_000 + " }}",
        "tildes": "{{ 1" + "~1" * 40_000 + " }}",
        "ands": "{{ 1" + " and 1" * 15_000 + " }}",
        "comparisons": "{{ 1" + " < 1" * 20_000 + " }}",
        "ternaries": "{{ " + "1 if 1 else " * 8_000 + "1 }}",
        "filters": "{{ word" + "|trim" * 19_000 + " }}",
        "attributes": "{{ word" + ".a" * 40_000 + " }}",
        "subscripts": "{{ word" + "[0]" * 30_000 + " }}",
        "calls": "{{ word" + "()" * 40_000 + " }}",
        "nested loops": "{% for a in word %}" * 3000 + "{% endfor %}" * 3000,
        "nested conditions": "{% if word %}" * 4000 + "{% endif %}" * 4000,
        "nested with": "{% with a = 1 %}" * 3000 + "{% endwith %}" * 3000,
        "elifs": "{% if word == 1 %}" + "{% elif word == 2 %}" * 4000 + "{% endif %}",
        "expressions not closed": "{{" * 50_000,
        "macro parameters": "{% macro m("
        + ",".join(f"a{i}" for i in range(9000))
        + ") %}{% endmacro %}",
        "names": "".join(f"{{% set a{i} = {i} %}}" for i in range(4000)),
    },
    "nests more than 50 expressions": {
        "sums in the middle": "{{ 1" + "+1" * 150 + " }}",
    },
    "nests more than 8 blocks": {
        "nested loops, 25": "{% for a in word %}" * 25 + "{% endfor %}" * 25,
        "nested conditions, 101": "{% if word %}" * 101 + "{% endif %}" * 101,
    },
    "line 1 is not valid Jinja2 (": {
        "comments": "{#" * 50_000,
        "raw": "{% raw %}" * 10_000,
        "break": "{% for a in word %}{% break %}{% endfor %}",
        "assignment to loop": "{% for loop in word %}{% endfor %}",
        "keyword as a name": "{% set none = 1 %}{{ none }}",
        "empty expression": "{{ }}",
        "unknown tag": "{% nosuch %}",
    },
    "it has a number of more than 4,300 digits": {
        "digits": "{{ " + "1" * 5000 + " }}",
    },
    "line 1 has a number that is too large for a float": {
        "exponent": "{{ 1e400 }}",
    },
    "uses {% macro %}": {
        "same parameter": "{% macro m(a, a) %}{% endmacro %}{{ m(1, 2) }}",
    },
    "line 1 gives one keyword argument twice": {
        "same keyword": "{{ dict(a=1, a=2) }}",
    },
    "cannot assign attribute on non-namespace object": {
        "assignment to a field": "{% set word.a = 1 %}",
    },
    "uses the filter 'nosuch'": {
        "unknown filter": "{{ word|nosuch }}",
        "unknown filter, not reached": "{% if false %}{{ word|nosuch }}{% endif %}",
    },
    "uses the test 'nosuch'": {
        "unknown test": "{{ word is nosuch }}",
    },
}

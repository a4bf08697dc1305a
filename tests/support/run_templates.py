"""Render hostile templates, each in a process of its own, and print how each of them ended.

`python tests/support/run_templates.py [KIND]` prints a JSON list for each template of the kind:
its name, the ending, the seconds of the processor and the megabytes that it took. The ending is
the text of the reject or error, or "equal" where the result is that of Jinja2's own sandbox.
"""

import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cost import measured
from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, Item, render_items
from odd_templates import FIELDS, HOSTILE

ITEM = Item("1", FIELDS, ("yes", "no"), 0)


class Plain(ImmutableSandboxedEnvironment):
    """The sandbox, where the views of dictionaries are lists, as ours."""

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = super().call(context, function, *args, **kwargs)
        return list(result) if isinstance(result, KeysView | ValuesView | ItemsView) else result


def plain() -> jinja2.Environment:
    """Jinja2's own sandbox, with promptsource's helpers; what iterates gives lists, as ours."""
    environment = Plain(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, optimized=False
    )
    environment.globals |= {
        "zip": lambda *values: list(zip(*values, strict=False)),
        "range": lambda *values: list(range(*values)),
    }
    for name in ("items", "map", "reject", "rejectattr", "select", "selectattr", "unique"):
        environment.filters[name] = listed(environment.filters[name])
    reverse = environment.filters["reverse"]
    environment.filters["reverse"] = lambda value: (
        reverse(value) if isinstance(value, str) else list(reverse(value))
    )
    tojson = environment.filters["tojson"]
    environment.filters["tojson"] = jinja2.pass_eval_context(lambda c, value: str(tojson(c, value)))
    environment.filters["most_frequent"] = most_frequent
    return environment


def most_frequent(values: Any) -> list[Any]:
    """promptsource's filter, which gives None for nothing."""
    counts = Counter(values).most_common()
    return [one[0] for one in counts if one[1] == counts[0][1]]


def listed(function: Any) -> Any:
    """The filter with a list for its result."""

    def call(*args: Any, **kwargs: Any) -> list[Any]:
        return list(function(*args, **kwargs))

    call.__dict__.update(function.__dict__)  # whether it takes the environment first
    return call


def outcome(text: str) -> tuple[str, float, float]:
    """The ending of one template, its seconds and its megabytes."""
    result = None
    try:
        with measured() as cost:
            result = render_items(Instruction("a", "cls", text), [ITEM])
        ending = "".join(f"{reject.reason}: {reject.detail}" for reject in result.rejects)
    except MetroFastError as error:
        ending = f"error: {error}"
    except BaseException as error:  # noqa: BLE001 - the finding that this is here for
        ending = f"RAW {type(error).__name__}: {error}"[:300]
    if result is not None and result.prompts:
        same = result.prompts[0].input == plain().from_string(text).render(FIELDS)
        ending = "equal" if same else f"unequal: {result.prompts[0].input[:100]!r}"
    return ending, round(cost.seconds, 2), round(cost.megabytes, 1)


def run(name: str) -> list[Any]:
    """The same from a fork with 3 GiB of addresses and 20 seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        signal.alarm(20)
        os.write(writing, json.dumps(outcome(HOSTILE[name][0])).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        written = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return [name, *(json.loads(written) if written else (f"DIED {status}", 20, 0))]


if __name__ == "__main__":
    render_items(Instruction("a", "cls", "{{ word }}"), [ITEM])  # imports
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    endings = [run(name) for name in HOSTILE if name.startswith(kind)]
    for each in endings:
        print(json.dumps(each))
    raw = sum(each[1].startswith(("RAW", "DIED", "unequal")) for each in endings)
    slow, large = (sum(each[i] > most for each in endings) for i, most in ((2, 1), (3, 100)))
    print(
        f"{len(endings)} templates: {raw} raw, dead or unequal, {slow} over 1 s, {large} over "
        "100 MB",
        file=sys.stderr,
    )

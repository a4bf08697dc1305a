"""The rooms are attributes of the package, imported when they are first used."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import metro_fast

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(metro_fast.__file__).parent


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_room_needs_no_import_of_its_own() -> None:
    code = (
        "import sys, metro_fast\n"
        "assert 'metro_fast.ops' not in sys.modules\n"
        "print(metro_fast.ops.pack.__module__, 'metro_fast.data' in sys.modules)\n"
    )
    assert python(code) == "metro_fast.ops.pack False"


def test_every_room_is_an_attribute_and_listed() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("[a-z]*/__init__.py")}
    assert folders - {"cli"} <= set(dir(metro_fast))
    for room in ("data", "experts", "ops", "prompts"):
        assert getattr(metro_fast, room).__name__ == f"metro_fast.{room}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'metro_fast' has no attribute 'opps'"):
        _ = metro_fast.opps  # type: ignore[attr-defined]


def test_type_checkers_see_the_rooms_that_exist() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    named = {alias.name for node in imports if node.module == "metro_fast" for alias in node.names}
    assert named == set(metro_fast._ROOMS)  # type: ignore[attr-defined]


def test_kernels_name_the_torch_extra() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # as if it were not installed
        "import metro_fast\n"
        "from metro_fast.ops.cuda import flags\n"
        "for use in (lambda: __import__('metro_fast.ops.torch'),\n"
        "            lambda: flags.raise_flagged('cpu')):\n"
        "    try: use()\n"
        "    except metro_fast.MissingExtraError as error: print(error)\n"
    )
    sentence = "torch is not installed. Install it with: pip install 'metro_fast[torch]'"
    assert python(code).splitlines() == [sentence, sentence]


def test_every_extra_that_an_error_names_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "testing":
            continue  # has a function of the same name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                named.add(ast.literal_eval(node.args[1]))
    assert named
    assert named <= set(project["optional-dependencies"])

"""Check that the site documents every public name: `python tests/support/site_names.py SITE`."""

import importlib
import sys
import zlib
from pathlib import Path

ROOMS = ["ops", "data", "experts", "metro", "tuning", "prompts", "scoring", "robustness"]


def documented(site: Path) -> set[str]:
    """Names in the inventory, which other projects link by (the format is Sphinx's)."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(packed).decode().splitlines()}


def public() -> set[str]:
    """Names that the package and its rooms export."""
    modules = ["metro_fast", *(f"metro_fast.{room}" for room in ROOMS)]
    return {f"{m}.{name}" for m in modules for name in importlib.import_module(m).__all__}


if __name__ == "__main__":
    missing = sorted(public() - documented(Path(sys.argv[1])) - {"metro_fast.__version__"})
    if missing:
        sys.exit("these public names are on no page of the site: " + ", ".join(missing))
    print(f"the site documents {len(public())} public names")

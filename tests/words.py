"""Look for phrases that an English reader would stumble over: `python tests/words.py [FILE...]`.

The list is words.tsv beside this file. Without arguments every tracked text of the project is read;
with `--count` only the number of places is printed for each phrase.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {".py", ".pyi", ".rs", ".cu", ".cuh", ".md", ".jinja", ".toml", ".yaml", ".yml", ".cff"}
KINDS |= {".cpp", ".h", ".c", ".css"}
EXEMPT = {
    # English as data: what the demo's model learns from, and the words of tiny vocabularies.
    "examples/demo_data.py",
    "tests/conftest.py",
    # Measured output, written by programs.
    "benches/results/",
}


def phrases() -> list[tuple[re.Pattern[str], str]]:
    """Each pattern of the list and what to say instead."""
    rows = Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()
    pairs = (row.split("\t") for row in rows if row and not row.startswith("# "))
    return [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in pairs]


def texts() -> list[Path]:
    """Every tracked file that people read."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [
        ROOT / name
        for name in listed.stdout.splitlines()
        if Path(name).suffix in KINDS or name == "Makefile"
        if not any(name.startswith(exempt) for exempt in EXEMPT)
        if (ROOT / name).is_file()
    ]


def main(arguments: list[str]) -> int:
    """Print each place found; 1 if there is one."""
    names = [name for name in arguments if not name.startswith("--")]
    listed = phrases()
    counts: Counter[str] = Counter()
    for path in [Path(name).resolve() for name in names] or texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for pattern, advice in listed:
                for found in pattern.finditer(line):
                    counts[pattern.pattern] += 1
                    if "--count" not in arguments:
                        print(f"{path.relative_to(ROOT)}:{number}: {found[0]!r}: {advice}")
    for pattern, count in counts.most_common() if "--count" in arguments else ():
        print(f"{count:5} {pattern}")
    print(f"{counts.total()} phrases of tests/words.tsv")
    return int(counts.total() > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

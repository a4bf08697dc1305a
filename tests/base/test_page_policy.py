"""The content security policy of our pages, in a browser: what slips through does not run."""

import subprocess
from pathlib import Path

from browser import chromium
from metro_fast._page import Section, document

INJECTED = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


def title_after_loading(page: str, folder: Path) -> tuple[str, str]:
    path = folder / "page.html"
    path.write_text(page, "utf-8")
    command = [
        chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--virtual-time-budget=3000", f"--user-data-dir={folder / 'profile'}", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.partition("<title>")[2].partition("</title>")[0], done.stdout


def test_an_injected_script_does_not_run(tmp_path: Path) -> None:
    page = document("whole", [], [Section("part", INJECTED)])
    assert title_after_loading(page, tmp_path)[0] == "whole"
    head, _, rest = page.partition('<meta http-equiv="Content-Security-Policy"')
    without = head + rest.partition(">")[2]
    assert title_after_loading(without, tmp_path)[0] == "run"

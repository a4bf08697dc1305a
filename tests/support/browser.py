"""Chromium: a page laid out at several widths, or driven as by a reader."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MEASURE = r"""
function shown(e) { return e.getClientRects().length > 0; }
function name(e) {
  return e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.slice(0, 50);
}
function measure(frame) {
  const doc = frame.contentDocument, root = doc.documentElement, faults = [];
  const look = frame.contentWindow.getComputedStyle;
  if (root.scrollWidth > root.clientWidth)
    faults.push('the page is ' + root.scrollWidth + ' wide');
  let scrolling = 0;
  for (const box of doc.querySelectorAll('*')) {
    if (!shown(box) || box.ownerSVGElement || box.scrollWidth <= box.clientWidth + 1) continue;
    const overflow = look(box).overflowX;
    if (overflow === 'auto' || overflow === 'scroll') {
      scrolling += 1;
      if (!look(box).backgroundImage.includes('gradient')) faults.push('no hint: ' + name(box));
      if (box.tabIndex !== 0) faults.push('not reached by the keyboard: ' + name(box));
    } else if (overflow === 'hidden' || overflow === 'clip') faults.push('hidden: ' + name(box));
  }
  const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT), range = doc.createRange();
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!text.data.trim() || !shown(parent) || parent.closest('title')) continue;
    const box = parent.closest('.scroll');
    let left = 0, right = root.clientWidth, top = -Infinity;
    if (box) {
      left = box.getBoundingClientRect().left - box.scrollLeft;
      right = left + box.scrollWidth;
      top = box.getBoundingClientRect().top;
    }
    range.selectNodeContents(text);
    for (const at of range.getClientRects())
      if (at.left < left - 1 || at.right > right + 1 || at.top < top - 1)
        faults.push('outside: ' + text.data.slice(0, 60) + ' ' + [at.left, at.right, left, right]);
  }
  for (const number of doc.querySelectorAll('text.cell')) {
    const cell = number.previousElementSibling.getBoundingClientRect();
    if (number.getBoundingClientRect().width > cell.width + 1) faults.push('over: ' + name(number));
  }
  const paper = look(doc.body).backgroundColor;
  return {faults: [...new Set(faults)], scrolling: scrolling, paper: paper};
}
addEventListener('load', () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) found[frame.width] = measure(frame);
  document.getElementById('found').textContent = JSON.stringify(found);
});
"""


def chromium() -> str:
    """The path of Chromium; the test is skipped on a machine without it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no browser is installed under the names {', '.join(NAMES)}")
    return found


def layout(page: str, widths: Sequence[int], folder: Path, *, dark: bool = False) -> dict:
    """By width: `faults` of the layout in words, and the number of boxes that scroll.

    Each width is a frame, since a window cannot be as narrow as a phone.
    """
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'
        for width in widths
    )
    host = folder / "host.html"
    host.write_text(
        f'<meta charset="utf-8">{frames}<pre id="found"></pre><script>{MEASURE}</script>', "utf-8"
    )
    command = [
        chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000",
        "--virtual-time-budget=20000", f"--blink-settings=preferredColorScheme={int(not dark)}",
        host.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return {int(k): v for k, v in json.loads(html.unescape(found[1])).items()}


VISIBLE = r"""
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
while (walker.nextNode()) {
  const text = walker.currentNode, parent = text.parentElement;
  if (!text.data.trim() || !parent.checkVisibility()) continue;
  if (parseFloat(getComputedStyle(parent).fontSize) < 6) continue;
  range.selectNodeContents(text);
  const at = [...range.getClientRects()];
  if (at.length && at.every(r => r.top >= 0 && r.left >= 0 && r.bottom <= innerHeight
      && r.right <= innerWidth)) found.push(text.data.trim());
}
return found.join(' ').replace(/\s+/g, ' ');
"""
"""The text that is inside of the window, without what is too small to read."""


@contextmanager
def driven(
    page: Path, *, width: int = 1280, height: int = 800, dark: bool = False
) -> Iterator[Any]:
    """A browser of 1280 x 800 with a page; the test is skipped where it cannot be driven."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = shutil.which("chromedriver")
    if not service:
        pytest.skip("chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [media]})
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()

"""Lays out a page in Chromium at several widths, and finds what a reader could not see."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

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

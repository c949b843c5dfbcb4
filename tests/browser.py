"""A real browser for the tests of the page: Debian's chromium, with a profile of its own, driven by playwright.

Nothing here downloads anything. ``make browser`` fetches what is missing; tests that need what is not there are
skipped and say how to get it. ``ROTBENCH_BROWSER`` names another Chromium; empty it skips the tests.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = {"width": 1280, "height": 900}
AXE = Path("node_modules", "axe-core", "axe.min.js")
#: The elements that a selector finds and that neither they nor what they are in hides. ``checkVisibility`` knows of
#: closed details, but takes a group of a drawing that is not displayed for visible.
SEEN = """[...document.querySelectorAll(selector)].filter((one) => {
  for (let part = one; part; part = part.parentElement) if (getComputedStyle(part).display === "none") return false;
  return one.checkVisibility({ visibilityProperty: true });
})"""


def chromium() -> str:
    """The browser's program; the test that asks for it is skipped where there is none."""
    found = os.environ.get("ROTBENCH_BROWSER", next(filter(None, map(shutil.which, NAMES)), ""))
    if not found:
        pytest.skip("no Chromium: `apt-get install chromium`, or name one in ROTBENCH_BROWSER")
    return found


def axe() -> str:
    """The source of axe-core, from the environment that ``make browser`` filled."""
    for folder in (Path(sys.prefix), Path(__file__).parent.parent / ".venv"):
        if (folder / AXE).exists():
            return (folder / AXE).read_text(encoding="utf-8")
    pytest.skip("no axe-core: install npm and run `make browser`")


@contextmanager
def started() -> Iterator[Browser]:
    """A browser without a window and without anyone's settings; closed at the end."""
    program, as_root = chromium(), os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=not as_root, args=["--disable-gpu"], timeout=120_000
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Seen:
    """A page that is open, and all that it did besides being looked at."""

    page: Page
    size: ViewportSize
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def run(self, script: str, argument: object = None) -> Any:
        """What a script says of the page."""
        return self.page.evaluate(script, argument)

    def texts(self, selector: str) -> list[str]:
        """What the elements that can be seen say, each as one line; hidden parts of them are left out."""
        said: list[str] = self.run(f"selector => {SEEN}.map((one) => one.innerText ?? one.textContent)", selector)
        return [" ".join(text.split()) for text in said]

    def count(self, selector: str) -> int:
        """How many of these elements can be seen, be it by scrolling."""
        return int(self.run(f"selector => {SEEN}.length", selector))

    def exist(self, selector: str) -> int:
        """How many of these elements there are, seen or not."""
        return int(self.run("selector => document.querySelectorAll(selector).length", selector))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def context(browser: Browser, **settings: Any) -> BrowserContext:
    """A window of its own for tabs, which are cheaper; ``settings`` are those of playwright's ``new_context``."""
    return browser.new_context(**{"viewport": SIZE, "reduced_motion": "reduce"} | settings)


def opened(window: BrowserContext, path: Path, fragment: str = "") -> Seen:
    """The file in a new tab.

    Requests, messages on the console, errors and dialogs are recorded from the first moment on.
    """
    seen = listening(window.new_page())
    seen.page.goto(f"{path.as_uri()}{fragment}")
    return seen


def opened_again(seen: Seen, path: Path, fragment: str, color_scheme: Any) -> None:
    """The file in the tab of another page, as if it were new: a new tab takes three times as long."""
    seen.page.emulate_media(media="null", color_scheme=color_scheme)
    seen.page.set_viewport_size(seen.size)
    seen.page.mouse.move(0, 0)
    seen.requests.clear()
    seen.complaints.clear()
    seen.page.goto(f"{path.as_uri()}{fragment}")


def listening(page: Page) -> Seen:
    """A tab that records what it asks for and says."""
    size = page.viewport_size
    assert size is not None
    seen = Seen(page, size)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))

    def dismiss(dialog: Any) -> None:
        seen.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", dismiss)
    return seen

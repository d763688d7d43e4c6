"""What a page becomes in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def rendered(url: str, profile: Path) -> str:
    """The page's HTML once its script ran; the test is skipped where there is no browser.

    profile: a folder that may be written to.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command = [browser, *options, "--virtual-time-budget=5000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def texts(html: str, kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Class and text of the elements of these classes that hold nothing else, in order."""
    found = re.findall(rf'class="({"|".join(kinds)})"[^>]*>([^<]*)<', html)
    return [(kind, unescape(text)) for kind, text in found]

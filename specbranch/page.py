"""One HTML file that needs nothing else: tokens by how they came, and both lanes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from specbranch.looks import LANES, ORIGIN_COLORS, ORIGIN_WORDS, OTHER, STYLES, Style


def page(run: Mapping[str, Any] | None = None) -> str:
    """The page about a run, or, without one, to chat on with the server that it comes from.

    run: what `generate --json` writes, and the `pieces` of text and the `spans` of the lanes.
    """
    html = files("specbranch").joinpath("page.html").read_text("utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hashed("script", html),
        "style-src": _hashed("style", html),
        "connect-src": "'none'" if run else "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    data = {
        "origins": {
            name: {"color": color, "words": ORIGIN_WORDS[name]}
            for name, color in ORIGIN_COLORS.items()
        },
        "lanes": LANES,
        "work": {label: _told(style) for label, style in STYLES.items()},
        "other": _told(OTHER),
        "run": run,
    }
    rules = "; ".join(f"{name} {sources}" for name, sources in policy.items())
    told = json.dumps(data).replace("<", "\\u003c")  # no text may end the element
    return html.replace("POLICY", rules, 1).replace("DATA", told, 1)


def _told(style: Style) -> dict[str, Any]:
    return {"words": style.name, "color": style.shades[0], "shades": style.shades}


def _hashed(tag: str, html: str) -> str:
    """The source that allows the content of that element."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

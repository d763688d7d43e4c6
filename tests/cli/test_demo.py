"""`specbranch demo`: one text sooner, and four at once."""

from __future__ import annotations

import re


def test_one_text_sooner_and_four_at_once(invoke, tmp_path):
    options = ("--max-new-tokens", "24", "--clock", "virtual:c=4", "--out", str(tmp_path))
    result = invoke("demo", *options)
    assert result.exit_code == 0
    assert re.search(
        r"specbranch: \d\.\d\dx as fast as plain decoding, identical: yes", result.stdout
    )
    (line,) = re.findall(r"auto, 4 requests: .*", result.stdout.replace("\n", " "))
    alone, together = map(float, re.findall(r"([\d.]+) tok/draft step", line))
    assert together > 2 * alone  # rows are free on this clock
    assert line.strip().endswith("together, identical: yes")
    assert {path.name for path in tmp_path.iterdir()} == {"timeline.png", "trace.json"}

"""Prompts from packages' documentation: prose, without what is around it."""

from __future__ import annotations

from itertools import islice

from bench.prompt_docs import WORDS, docs_records, passages

PROSE = "This **package** reads `files` of [many](https://a.b/c) kinds, and writes them too."


def test_prose_is_kept_and_its_marks_are_not():
    text = "\n\n".join([PROSE, "And this is\nthe :meth:`next` paragraph of it."] + [PROSE] * 2)
    (passage,) = passages(text)
    plain = "This package reads files of many kinds, and writes them too."
    assert passage.split("\n\n") == [plain, "And this is the next paragraph of it.", plain, plain]


def test_code_links_headings_and_tables_part_passages():
    long = " ".join([PROSE] * 5)
    for other in (
        "    import this",
        "```python\nx = 1\n\ny = 2\n```",
        "# Heading",
        "Heading\n=======",
        "| a | b |",
        "See https://example.org for more.",
        "Привет, мир, это не по-английски.",
    ):
        assert len(list(passages(f"{long}\n\n{other}\n\n{long}"))) == 2
    assert list(passages(PROSE)) == []


def test_passages_have_a_length():
    (*most, last) = passages("\n\n".join([PROSE] * 60))
    assert most
    assert all(WORDS[0] <= len(each.split()) <= WORDS[1] for each in [*most, last])
    assert list(passages(" ".join([PROSE] * 60))) == []


def test_records_are_the_same_each_time_and_distinct():
    records = list(islice(docs_records(), 50))
    assert records == list(islice(docs_records(), 50))
    assert len({record["id"] for record in records}) == 50
    assert len({record["prompt"].partition("\n\n")[2] for record in records}) == 50

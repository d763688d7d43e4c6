"""Methods and their options, the package's own and those from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from specbranch.cli.options import PolicyOptions
from specbranch.comparison.methods import options_by_method, parse_option
from tests.cli.conftest import Invoke
from tests.cli.test_compare import compare

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def in_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is that of examples/policy.py."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "policy", raising=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=4", 4),
        ("n=-1", -1),
        ("n=0.5", 0.5),
        ("n=1e3", 1000.0),
        ("n=true", True),
        ("n=False", False),
        ("n=wide", "wide"),
        ("n=a=b", "a=b"),
        ("n=", ""),
    ],
)
def test_values_of_options_are_what_they_read_as(text: str, value: object) -> None:
    name, parsed = parse_option(text)
    assert (name, parsed, type(parsed)) == ("n", value, type(value))


@pytest.mark.parametrize("text", ["gamma", "=4", "two words=4", ""])
def test_what_is_no_option_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"option: expected key=value, got '{text}'"):
        parse_option(text)


def test_options_are_given_by_name_or_by_flag() -> None:
    given = PolicyOptions(gamma=2, option=["k_max=3", "gamma=5"]).given()
    assert given == {"gamma": 5, "k_max": 3}
    assert PolicyOptions().given() == {}


def test_every_method_gets_the_options_that_it_knows(in_examples: None) -> None:
    options = {"gamma": 3, "rows": 5, "k_max": 2}
    assert options_by_method(["policy:Hedge", "pearl", "specbranch", "ar"], options) == {
        "policy:Hedge": {"rows": 5},
        "pearl": {"gamma": 3},
        "specbranch": {"k_max": 2, "gamma": 3},
        "ar": {},
    }


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--method", "policy:Nothing"), "'policy:Nothing' cannot be imported"),
        (("--method", "policy:Engine"), "expected a subclass of Policy, got 'policy:Engine'"),
        (
            ("--method", "policy:Hedge", "--gamma", "3"),
            "policy:Hedge takes --width, --rows, --sure",
        ),
        (("--method", "policy:Hedge", "--option", "rows"), "option: expected key=value"),
        (("--method", "sps", "--option", "gamma=few"), "sps: gamma: expected an integer"),
    ],
)
def test_what_does_not_hold_is_one_line(
    invoke: Invoke, in_examples: None, options: tuple[str, ...], wanted: str
) -> None:
    result = invoke("generate", *options)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert wanted in line


def test_a_method_from_elsewhere_is_compared_under_its_full_name(
    invoke: Invoke, in_examples: None, tmp_path: Path
) -> None:
    method = ("--methods", "policy:Hedge,pearl", "--option", "rows=1", "--limit", "1")
    report = compare(invoke, tmp_path, *method)
    assert [run["method"] for run in report["runs"]] == ["ar", "policy:Hedge", "pearl"]
    assert all(run["identical_to_ar"] for run in report["runs"])
    assert report["summary"]["policy:Hedge"]["mean_accepted_length"] <= 2

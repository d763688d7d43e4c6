"""Operators' shares of a round."""

from types import SimpleNamespace

from bench.host import table


def test_shares_are_of_all_time_and_what_is_not_listed_is_summed():
    events = [
        SimpleNamespace(key=key, self_cpu_time_total=time, count=count)
        for key, time, count in (("small", 100.0, 2), ("large", 700.0, 4), ("tiny", 200.0, 6))
    ]
    found = table(events, rounds=2, top=1)
    assert found.title == "0.5 ms a round"
    assert [list(column.cells) for column in found.columns] == [
        ["large", "2 others"],
        ["70.0%", "30.0%"],
        ["2.0", "4.0"],
    ]

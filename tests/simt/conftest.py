"""A table of the traffic that was counted, after a run in one process; torch on one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simt.device import Traffic
from tests.threads import one_thread

__all__ = ["one_thread"]

TRAFFIC = pytest.StashKey[dict[str, Traffic]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TRAFFIC] = {}


@pytest.fixture
def report_traffic(request: pytest.FixtureRequest) -> Callable[[str, Traffic], None]:
    """report_traffic(kernel, traffic) adds a row to the table."""
    return request.config.stash[TRAFFIC].__setitem__


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.stash[TRAFFIC]:
        return
    terminalreporter.section("transactions of memory: done / least possible")
    for kernel, traffic in config.stash[TRAFFIC].items():
        columns = (
            f"{name.replace('_', ' ')} {sum_.transactions}/{sum_.ideal}"
            for name, sum_ in traffic._asdict().items()
            if sum_.requests
        )
        terminalreporter.write_line(f"{kernel}: {', '.join(columns)}")

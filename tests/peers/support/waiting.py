"""The only way to wait here: for a condition, with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# The time between two looks. A condition that holds is noticed at once by a person's measure, and a look costs little.
PAUSE = 0.05


def until(what: str, limit: float, condition: Callable[[], T], pause: float = PAUSE) -> T:
    """Asks `condition` until it yields something true, and returns that. After `limit` seconds the test fails."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {limit:g} s: {what}"
        time.sleep(pause)

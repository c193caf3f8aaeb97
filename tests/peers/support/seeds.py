"""Runs that go by chance, and can be had again: `HEEDWELL_KILL_SEED` names the seed that an earlier one printed."""

import os
import random
from collections.abc import Callable

import pytest


def telling(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """What prints past the capture, so that a green run's figures are seen as well."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    return say


def announced(request: pytest.FixtureRequest) -> tuple[int, Callable[[str], None]]:
    """The seed of a run, which is printed, and what prints more of it."""
    seed = int(os.environ.get("HEEDWELL_KILL_SEED") or random.SystemRandom().randrange(2**32))
    say = telling(request)
    say(f"HEEDWELL_KILL_SEED={seed}")
    return seed, say

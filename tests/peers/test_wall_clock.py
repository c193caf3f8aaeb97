"""The vectors by which the server's clock on the wall is tested are what zoneinfo says."""

from support.contract import ROOT
from support.wall_clock import generate, text


def test_the_vectors_are_what_zoneinfo_says() -> None:
    committed = (ROOT / "tests" / "vectors" / "wall_clock.json").read_text()
    found = text(generate())
    wrong = [(ours, theirs) for ours, theirs in zip(committed.splitlines(), found.splitlines()) if ours != theirs]
    assert committed == found, f"{len(wrong)} lines differ, for example: {wrong[:1]}"

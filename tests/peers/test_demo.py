"""The demo, run as a person would run it: it says what happened, and that is what it exits with."""

import re
import subprocess
from pathlib import Path

from support.processes import binary, environment


def test_the_demo_ends_by_itself_and_shows_what_comes_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [binary(), "demo", "--once"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    end = done.stdout.split("In the end:")[1]
    counted = re.search(r"^(\d+) of (\d+) deliveries ended as expected$", end, re.MULTILINE)
    assert counted and counted[1] == counted[2] and int(counted[1]) > 40, end
    rows = {tuple(line.split()[:2]) + (" email " in line,): line for line in end.splitlines() if " reminder" in line}
    for patient, provider, state, detail in (
        ("pat", "smtp", "sent", ""),
        ("sam", "smtp", "failed", "550 5.1.1"),
        ("kim", "smtp", "failed", "550 5.1.1"),
        ("ann", "sendgrid", "delivered", ""),
        ("ben", "sendgrid", "failed", "550 5.1.1"),
    ):
        row = rows[(patient, "appointment", True)]
        assert f" {provider} " in row and f" {state} " in row and detail in row, row
    # Kim's mail was taken before it came back.
    changes = [line for line in done.stdout.split("In the end:")[0].splitlines() if line.startswith("kim ")]
    assert [bool(re.search(f" {state} ", line)) for state, line in zip(("sent", "failed"), changes[-2:])] == [True, True]
    assert not list(tmp_path.iterdir()), "it leaves something behind where it was called"

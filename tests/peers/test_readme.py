"""The README's first example, run as a person would run it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.contract import ROOT
from support.practice import Practice, patient
from support.processes import Sandbox, Server, binary, environment


def blocks() -> tuple[str, str]:
    """The first Python block, and the shell block before it, which makes the client."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    languages = [language for language, _ in found]
    assert "python" in languages, "the README shows no Python"
    place = languages.index("python")
    shell = [code for language, code in found[:place] if language in ("sh", "bash", "shell")]
    assert shell, "the README does not say how the client is made"
    return shell[-1], found[place][1]


def test_the_first_example_of_the_readme_sends_and_watches_until_delivered(
    sandboxed: Callable[..., Server], sandbox: Sandbox, tmp_path: Path
) -> None:
    shell, python = blocks()
    server = sandboxed(None)
    # The example's own request_id may have any form, so the practice is new.
    practice = Practice(server, "acme").furnish([patient("pat")], sandbox=sandbox)
    folder = tmp_path / "reader"
    folder.mkdir()
    # A reader stands in a clone; a link to the contract is all of it that the commands may need.
    (folder / "proto").symlink_to(ROOT / "proto")
    (tmp_path / "example.py").write_text(python)
    # The reader builds the program with cargo; here it is built already, and what it is asked to do is done by that build.
    # `python` and `pip` are those that run the tests, as in a reader's own environment with the packages installed.
    tools = tmp_path / "tools"
    tools.mkdir()
    cargo = tools / "cargo"
    cargo.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "run --release --" ] || exit 64\nshift 3\nexec {binary()} "$@"\n')
    cargo.chmod(0o755)
    env = environment(HEEDWELL_DATA_DIR=server.env["HEEDWELL_DATA_DIR"], HEEDWELL_ADDR=server.grpc_address)
    env["PATH"] = f"{tools}:{Path(sys.executable).parent}:{env['PATH']}"
    env["HEEDWELL_TOKEN"] = practice.token
    script = f"set -e\n{shell}\ncp {tmp_path}/example.py ./example.py\nexec python example.py\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "DELIVERED" in done.stdout, f"{done.stdout}\n{done.stderr}"
    assert len(python.strip().splitlines()) <= 30, "the example is no longer a short one"

"""The README's examples in Python, run as a person would run them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support import contract
from support.contract import ROOT
from support.practice import Practice, patient
from support.processes import Sandbox, Server, binary, environment


def code() -> list[tuple[str, str]]:
    """All blocks, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def blocks() -> tuple[str, str]:
    """The first Python block, and the shell block before it, which makes the client."""
    found = code()
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


def test_the_send_with_retries_of_the_readme_may_be_run_twice(
    sandboxed: Callable[..., Server], sandbox: Sandbox, tmp_path: Path
) -> None:
    examples = [python for language, python in code() if language == "python" and "service_config" in python]
    assert len(examples) == 1
    practice = Practice(sandboxed(None), "acme").furnish([patient("pat")], sandbox=sandbox)
    contract.generate(tmp_path)
    (tmp_path / "clients").symlink_to(ROOT / "clients")
    (tmp_path / "example.py").write_text(examples[0])
    env = environment(HEEDWELL_ADDR=practice.server.grpc_address, HEEDWELL_TOKEN=practice.token)

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "example.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    (first, replayed, channel, state), (again, replayed_again, *_) = run(), run()
    assert (first, replayed, replayed_again) == (again, "False", "True")
    # It goes to this patient: one that was skipped would look as well by its id.
    assert channel == "CHANNEL_SMS" and state in {f"DELIVERY_STATE_{name}" for name in ("PENDING", "SENT", "DELIVERED")}

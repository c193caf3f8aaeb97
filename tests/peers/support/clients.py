"""The programs of clients/, built as their files say, and run with the visits that they are to remind of."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import contract
from .contract import ROOT
from .practice import Practice
from .processes import Process, binary, environment

CLIENTS = ROOT / "clients"


def _python(folder: Path) -> list[str | Path]:
    program = folder / "python" / "remind.py"
    program.parent.mkdir()
    shutil.copy(CLIENTS / "python" / "remind.py", program)
    shutil.copy(CLIENTS / "service_config.json", folder)
    contract.generate(program.parent)
    return [sys.executable, program]


def _typescript(_folder: Path) -> list[str | Path]:
    home = CLIENTS / "typescript"
    assert (home / "node_modules").exists(), "the packages of clients/typescript are missing: run `npm ci` there"
    _build(["npm", "run", "--silent", "build"], home)
    return ["node", home / "dist" / "src" / "remind.js"]


def _go(folder: Path) -> list[str | Path]:
    """With the libraries that Debian packages, which know no modules, and are searched like a program's own folder."""
    _build(["sh", "generate.sh"], CLIENTS / "go")
    path, program = folder / "gopath", folder / "remind-go"
    home = path / "src" / "example.com" / "remind"
    shutil.copytree(CLIENTS / "go", home)
    env = {"GO111MODULE": "off", "GOPATH": f"{path}:/usr/share/gocode"}
    _build(["go", "vet", "."], home, **env)
    _build(["go", "build", "-o", program, "."], home, **env)
    return [program]


def _rust(_folder: Path) -> list[str | Path]:
    """A member of the workspace, built with the server and lying beside it."""
    program = binary().with_name("remind")
    assert program.exists(), f"{program} is missing: run `cargo build --workspace`"
    return [program]


def _build(command: list[str | Path], folder: Path, **env: str) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"


# How each is built, in a folder of the test's own where it can be, and what runs it then.
LANGUAGES: dict[str, Callable[[Path], list[str | Path]]] = {
    "python": _python,
    "typescript": _typescript,
    "go": _go,
    "rust": _rust,
}


class Client(Process):
    """A program of clients/ that works for one practice."""

    def __init__(self, language: str, folder: Path, practice: Practice) -> None:
        super().__init__(f"client-{language}", folder)
        self.practice = practice
        self.said = folder / f"{self.name}.jsonl"
        self.token = folder / f"{self.name}.token"
        self._command = LANGUAGES[language](folder)
        self._fed = 0

    def start(self) -> "Client":
        self.renew()
        env = environment(
            HEEDWELL_ADDR=self.practice.server.grpc_address,
            HEEDWELL_PRACTICE=self.practice.id,
            HEEDWELL_TOKEN_FILE=str(self.token),
            # The Go library of Debian's stable release retries only if it is told to; later ones do so by themselves.
            GRPC_GO_RETRY="on",
        )
        with self.log.open("ab") as log, self.said.open("ab") as said:
            self._child = subprocess.Popen(
                self._command, env=env, cwd=self.folder, stdin=subprocess.PIPE, stdout=said, stderr=log
            )
        return self

    def renew(self, token: str | None = None) -> None:
        """Writes a token to the file, all of it at once."""
        written = self.token.with_suffix(".new")
        written.write_text(f"{token or self.practice.token}\n")
        written.replace(self.token)

    def feed(self, *visits: dict[str, str]) -> None:
        self.feed_line(*map(json.dumps, visits))

    def feed_line(self, *lines: str) -> None:
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._child.stdin.flush()
        self._fed += len(lines)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it said so far, in order. A line counts once its end is there."""
        lines = self.said.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if name is None or name in event]

    def said_since(self, mark: int, **wanted: Any) -> bool:
        """Whether an event that holds all that is wanted came after the first `mark` ones."""
        return any(wanted.items() <= event.items() for event in self.events()[mark:])

    @property
    def answered(self) -> bool:
        """Whether it knows of each of its visits what became of the request."""
        return len(self.events("accepted")) + len(self.events("refused")) == self._fed

    def finish(self) -> None:
        """Gives no more visits; the program ends then by itself."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.close()
        code = self.ended()
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

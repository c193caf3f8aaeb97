"""The programs under test and their peers, as processes: started, killed, stopped, and always ended."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from .contract import ROOT
from .network import free_port, http
from .waiting import until

# A dev build on a busy machine with two cores; on an idle one it takes well under a second.
START_LIMIT = 60
# The promise to whoever stops the server: it is gone by then, whatever is under way.
STOP_LIMIT = 25

# After a kill the client shall be back as soon as the server is; the default may wait for minutes.
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def binary() -> Path:
    """The program under test, built by whoever runs the tests."""
    path = Path(os.environ.get("HEEDWELL_BIN") or ROOT / "target" / "debug" / "heedwell")
    assert os.access(path, os.X_OK), f"{path} is missing: run `cargo build`, or name the program in HEEDWELL_BIN"
    return path.resolve()


def environment(**settings: str) -> dict[str, str]:
    """Nothing of the caller's settings: a stray HEEDWELL_ variable would change what is tested.

    Nor is it, how full the disk is that the tests happen to run on: servers keep the least that they do by default. Only a bug
    that is planted passes, which a build with the feature `mutants` has and a test must see.
    """
    passed = ("PATH", "HOME", "LANG", "TZ", "HEEDWELL_TEST_MUTANT")
    kept = {name: os.environ[name] for name in passed if name in os.environ}
    return {**kept, "RUST_BACKTRACE": "1", "HEEDWELL_DISK_RESERVE_MIB": "256", **settings}


class Ended(AssertionError):
    """The process that was waited for is gone."""


class Process:
    """A child with its output in a file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def spawn(self, arguments: list[str | Path], env: dict[str, str]) -> None:
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                arguments, env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def wait_for(self, what: str, condition: Any, limit: float = START_LIMIT) -> Any:
        """Waits for a condition that a child which has ended can never meet."""

        def look() -> Any:
            found = condition()
            if not found and not self.alive:
                raise Ended(f"{self.name} ended while it was waited for ({what}):\n{self.tail()}")
            return found

        try:
            return until(f"{self.name}: {what}", limit, look)
        except Ended:
            raise
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self, lines: int = 60) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """As if the power failed, for this process alone."""
        assert self._child is not None and self.alive, f"{self.name} is not there to be killed:\n{self.tail()}"
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(timeout=10)

    def pause(self) -> None:
        """As if the machine stood still, for this process alone."""
        assert self._child is not None and self.alive, f"{self.name} is not there to be paused:\n{self.tail()}"
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._child is not None, f"{self.name} was never started"
        self._child.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        assert self._child is not None, f"{self.name} was never started"
        self._child.send_signal(signal.SIGTERM)

    def ended(self, limit: float = STOP_LIMIT) -> int:
        """The exit code, once it is there."""
        assert self._child is not None, f"{self.name} was never started"
        try:
            return self._child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {limit:g} s:\n{self.tail()}") from None

    def stop(self) -> None:
        """Asks it to end, and insists that it ends well and in time."""
        self.terminate()
        code = self.ended()
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def end(self) -> None:
        """Leaves nothing behind, however the test went."""
        if self._child is not None and self.alive:
            self._child.kill()
            self._child.wait(timeout=10)


class Server(Process):
    """`heedwell serve` with a data folder, ports and a database of its own, all kept over restarts."""

    def __init__(
        self, name: str, folder: Path, database: str | None, settings: dict[str, str], within: Sequence[str] = ()
    ) -> None:
        super().__init__(name, folder)
        # A command that runs another one, where the server is to be.
        self.within = within
        self.grpc_address = f"127.0.0.1:{free_port()}"
        self.http_address = f"127.0.0.1:{free_port()}"
        # What must never be seen in the log; whoever enters private data adds it.
        self.private: set[str] = set()
        self.env = environment(
            HEEDWELL_DATA_DIR=str(folder / f"{name}-data"),
            HEEDWELL_GRPC_ADDR=self.grpc_address,
            HEEDWELL_HTTP_ADDR=self.http_address,
            HEEDWELL_METRICS_ADDR="off",
            HEEDWELL_DRAIN_SECONDS="0",
            # Many tests send faster than any real number may.
            HEEDWELL_SMS_RATE="unlimited",
            HEEDWELL_SMS_PER_DAY="unlimited",
            HEEDWELL_SMS_PER_BLOCK="unlimited",
            HEEDWELL_CALLS_PER_SECOND="unlimited",
            RUST_LOG="info,heedwell=debug",
            **({"HEEDWELL_DATABASE_URL": database} if database else {}),
        )
        self.env.update(settings)

    @property
    def url(self) -> str:
        """Where the sidecar is, which is also what callbacks are signed over."""
        return f"http://{self.http_address}"

    def start(self) -> "Server":
        self.spawn_again()
        self.wait_for("/readyz says ready", self.ready)
        return self

    def spawn_again(self) -> None:
        """Starts it, and leaves the waiting to others."""
        self.spawn([*self.within, binary(), "serve", "--migrate"], self.env)

    def ready(self) -> bool:
        try:
            return http("GET", f"{self.url}/readyz", limit=5).status == 200
        except OSError:
            return False

    def restart(self) -> None:
        """Starts it again where it was."""
        self.start()

    def token(self, *roles: str, practice: str, subject: str = "peers", ttl: str = "1h") -> str:
        """A bearer token from the local signing key, as an operator would get one."""
        command = [*self.within, binary(), "token", "--practice", practice, "--subject", subject, "--ttl", ttl]
        for role in roles:
            command += ["--role", role]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"heedwell token: {done.stderr}"
        token = done.stdout.strip()
        assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token), "standard output holds something beside the token"
        self.private.add(token)
        return token

    def verb(self, *arguments: str) -> str:
        """What another verb prints that goes well, beside the server or without it."""
        command = [*self.within, binary(), *arguments]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"heedwell {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def audit(self, *arguments: str) -> str:
        """What `heedwell audit` prints, of a server that has stopped and whose ledgers hold."""
        return self.verb("audit", *arguments)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.grpc_address, options=_CHANNEL)

    def leaks(self) -> list[str]:
        """Lines of the log that hold private data, or the secret part of a link."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        links = re.compile(r"/(l|u|m)/[\w-]{16,}|/status/[\w-]{16,}")
        words = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)") for word in self.private if word]
        return [line for line in text.splitlines() if links.search(line) or any(word.search(line) for word in words)]


class Sandbox(Process):
    """`heedwell sandbox`: the provider stand-ins, with their journal on disk."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        super().__init__(name, folder)
        self.journal_file = folder / f"{name}-journal.jsonl"
        self.options = options
        self.twilio_url = ""
        self.sendgrid_url = ""
        self.control_url = ""
        self.smtp = ("", 0)

    def start(self) -> "Sandbox":
        any_port = [f"--{it}-addr=127.0.0.1:0" for it in ("twilio", "sendgrid", "fcm", "smtp", "control")]
        self.spawn([binary(), "sandbox", *any_port, f"--journal={self.journal_file}", *self.options], environment())
        said = self.wait_for("it says where it listens", self._places)
        self.twilio_url, self.sendgrid_url, self.control_url = said["twilio"], said["sendgrid"], said["control"]
        host, _, port = said["smtp"].rpartition(":")
        self.smtp = (host, int(port))
        return self

    def _places(self) -> dict[str, str] | None:
        # A line counts once its end is there.
        said = dict(re.findall(r"^(twilio|sendgrid|smtp|control) +(\S+)\n", self.log.read_text(), re.MULTILINE))
        return said if len(said) == 4 else None

    def journal(self, event: str | None = None) -> list[dict[str, Any]]:
        """What happened so far, oldest first."""
        entries = http("GET", f"{self.control_url}/journal").json()["entries"]
        return [entry for entry in entries if event in (None, entry["event"])]

    def wait_for_entry(self, what: str, condition: Any, limit: float = 20) -> dict[str, Any]:
        """The first entry that meets the condition."""
        return self.wait_for(what, lambda: next((it for it in self.journal() if condition(it)), None), limit)

    def tell(self, path: str, **document: Any) -> Any:
        """An order to the control endpoint."""
        answer = http("POST", f"{self.control_url}/{path}", document=document)
        assert answer.status in (200, 204), f"the sandbox refused {path}: {answer.body!r}"
        return answer.json() if answer.body else None


class Prism(Process):
    """Prism, the OpenAPI stand-in of Stoplight, with a provider's own description of its API."""

    def __init__(self, name: str, folder: Path, description: str) -> None:
        super().__init__(name, folder)
        self.description = description
        self.url = f"http://127.0.0.1:{free_port()}"

    def start(self) -> "Prism":
        peers = Path(os.environ.get("HEEDWELL_PEERS_NODE") or ROOT / "tests" / "peers")
        program = peers / "node_modules" / ".bin" / "prism"
        assert program.exists(), f"{program} is missing: run `npm ci` in tests/peers"
        spec = ROOT / "tests" / "peers" / "specs" / self.description
        port = self.url.rpartition(":")[2]
        self.spawn([program, "mock", "--errors", "-h", "127.0.0.1", "-p", port, spec], environment(NO_COLOR="1"))
        # Making its examples of the whole description takes it up to ten seconds.
        self.wait_for("it listens", lambda: "Prism is listening" in self.said(), limit=120)
        return self

    def said(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())

"""A PostgreSQL cluster of our own, thrown away afterwards. It keeps its promises to the disk (fsync stays on), since what
survives a kill is what the tests ask."""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from .waiting import until

# What a standby is called where commits wait for it.
STANDBY = "standby"

# Ends the server when its standard input closes: the kernel does that when the test process is gone, however it ended. A line
# on its standard input crashes the server and starts it again.
_KEEPER = """
start() {
  "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 >>"$2/log" 2>&1 &
  server=$!
}
start "$1" "$2"
while read -r _; do
  kill -QUIT $server
  wait $server
  start "$1" "$2"
done
kill -QUIT $server
wait $server
rm -rf "$2"
"""


def programs() -> Path:
    """The folder with initdb and postgres: named, in the PATH, or where Debian's packages put it."""
    named = [Path(os.environ["HEEDWELL_TEST_PG_BIN"])] if os.environ.get("HEEDWELL_TEST_PG_BIN") else []
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in [*named, *path, *debian]:
        # initdb may be a link, and it looks for postgres beside itself.
        real = (folder / "initdb").resolve()
        if real.exists() and (real.parent / "postgres").exists():
            return real.parent
    raise AssertionError("PostgreSQL is missing: install Debian's package postgresql, or set HEEDWELL_TEST_PG_BIN")


class Cluster:
    """A running server; every test gets a database of its own in it. With a primary it is that one's standby."""

    def __init__(self, primary: "Cluster | None" = None) -> None:
        self._bin = programs()
        # The path of the socket may have 107 bytes, so the folder's name is short.
        self._folder = Path(tempfile.mkdtemp(prefix="hw-pg-"))
        self._as: dict[str, str] = {}
        if os.geteuid() == 0:
            # initdb and postgres refuse to run as root.
            shutil.chown(self._folder, "nobody", "nogroup")
            self._as = {"user": "nobody", "group": "nogroup"}
        data = ["-D", str(self._folder / "data")]
        if primary is None:
            make = ["-A", "trust", "-U", "postgres", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8"]
            made = self._run("initdb", *make, *data)
        else:
            source = f"host={primary._folder} user=postgres application_name={STANDBY}"
            made = self._run("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "-d", source, *data)
        assert made.returncode == 0, f"no cluster: {made.stderr}"
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "keeper", self._bin, self._folder],
            stdin=subprocess.PIPE,
            cwd=self._folder,
            start_new_session=True,
            **self._as,
        )
        self._wait()

    def _wait(self) -> None:
        try:
            # The socket is there before the server answers.
            until("PostgreSQL answers", 60, lambda: self._run("pg_isready", "-h", str(self._folder)).returncode == 0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self._folder / 'log').read_text()}") from None

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self._bin / program, *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=120, **self._as)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t_{uuid.uuid4().hex}"
        made = self._run("createdb", "-h", str(self._folder), "-U", "postgres", name)
        assert made.returncode == 0, f"createdb: {made.stderr}"
        return f"postgres://postgres@localhost/{name}?host={self._folder}"

    def execute(self, url: str, statement: str) -> str:
        """What psql says of a statement; empty when the server does not answer."""
        name = url.partition("?")[0].rpartition("/")[2]
        return self._run("psql", "-h", str(self._folder), "-U", "postgres", "-d", name, "-c", statement).stdout.strip()

    @property
    def socket(self) -> Path:
        """Where the server listens; a URL names its folder."""
        return self._folder / ".s.PGSQL.5432"

    def crash(self) -> None:
        """Stops the server at once, as if its machine failed, and starts it again; what was committed comes back."""
        pid = self._pid()
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(b"again\n")
        self._keeper.stdin.flush()
        until("another PostgreSQL has started", 60, lambda: self._pid() not in ("", pid))
        self._wait()

    def _pid(self) -> str:
        try:
            return (self._folder / "data" / "postmaster.pid").read_text().partition("\n")[0]
        except FileNotFoundError:
            return ""

    def wait_for_standby(self, url: str) -> None:
        """Has no commit acknowledged from now on before the standby has it on disk."""
        self.execute(url, f"ALTER SYSTEM SET synchronous_standby_names TO '{STANDBY}'")
        self.execute(url, "SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication WHERE sync_state = 'sync'"
        until("commits wait for the standby", 30, lambda: "1 row" in self.execute(url, state))

    def promote(self) -> None:
        """Makes a standby a server that writes, and returns once it does."""
        made = self._run("pg_ctl", "promote", "-D", str(self._folder / "data"))
        assert made.returncode == 0, f"pg_ctl: {made.stderr}"

    def stop(self) -> None:
        """Stops the server at once, as if its machine failed, for good."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=60)

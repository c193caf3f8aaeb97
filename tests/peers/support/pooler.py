"""PgBouncer, as Debian packages it, before a PostgreSQL of the tests."""

import os
import shutil
from pathlib import Path

from .network import free_port
from .postgres import Cluster
from .processes import Process, environment

_SETTINGS = """[databases]
* = host={socket} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = {ignored}
"""


class Pooler(Process):
    """A pooler that lends connections for a session or a transaction, and leaves out of what clients ask for what it is told to."""

    def __init__(self, folder: Path, cluster: Cluster, mode: str, ignored: str) -> None:
        super().__init__("pooler", folder)
        self._port = free_port()
        self._settings = folder / "pooler.ini"
        socket = cluster.socket.parent
        self._settings.write_text(_SETTINGS.format(socket=socket, port=self._port, mode=mode, ignored=ignored))

    def start(self) -> "Pooler":
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "PgBouncer is missing: install Debian's package pgbouncer"
        command: list[str | Path] = [program, self._settings]
        if os.geteuid() == 0:
            # It refuses to run as root.
            command += ["-u", "nobody"]
        self.spawn(command, environment())
        self.wait_for("it listens", lambda: "process up" in self.log.read_text())
        return self

    def stop(self) -> None:
        # It does not count an end that it was asked for as a good one.
        self.terminate()
        self.ended()

    def url(self, database: str) -> str:
        """That of a database, by way of the pooler."""
        name = database.partition("?")[0].rpartition("/")[2]
        return f"postgres://postgres@127.0.0.1:{self._port}/{name}"

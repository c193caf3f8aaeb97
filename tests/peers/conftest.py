"""Black-box tests: the built program as a process, and around it peers that nobody here wrote. They look only at what a
client, a provider or a patient can see.

Run them with `.ci/test`, or by hand with the packages of requirements.txt and package.json installed:
`HEEDWELL_BIN=target/debug/heedwell python -m pytest tests/peers`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Its handlers for fork() only warn, and the children that are started here never use gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import pytest  # noqa: E402

from support.postgres import Cluster  # noqa: E402
from support.processes import Prism, Process, Sandbox, Server  # noqa: E402

_PROCESSES = pytest.StashKey[list[Process]]()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this run alone."""
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str | None:
    """An empty database, as the value of HEEDWELL_DATABASE_URL; none for SQLite in the data folder."""
    return None if request.param == "sqlite" else request.getfixturevalue("cluster").database()


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> Iterator[list[Process]]:
    """What a test started. At its end every server has to stop well, and its log has to be free of private data."""
    started: list[Process] = []
    request.node.stash[_PROCESSES] = started
    try:
        yield started
        # A server before the peers that it calls.
        for process in reversed(started):
            if process.alive and not isinstance(process, Prism):
                process.stop()
        for process in started:
            if isinstance(process, Server):
                leaks = process.leaks()
                assert not leaks, f"{len(leaks)} lines of the log hold private data, for example: {leaks[0]}"
    finally:
        for process in started:
            process.end()


@pytest.fixture
def server(processes: list[Process], tmp_path: Path) -> Callable[..., Server]:
    """Starts a server: `server(database, HEEDWELL_TWILIO_URL=...)`."""

    def start(database: str | None, name: str = "server", **settings: str) -> Server:
        process = Server(name, tmp_path, database, settings)
        processes.append(process)
        return process.start()

    return start


@pytest.fixture
def sandbox(processes: list[Process], tmp_path: Path) -> Sandbox:
    """The provider stand-ins as a process."""
    process = Sandbox("sandbox", tmp_path)
    processes.append(process)
    return process.start()


@pytest.fixture
def sandboxed(server: Callable[..., Server], sandbox: Sandbox) -> Callable[..., Server]:
    """Starts a server whose providers are the sandbox."""

    def start(database: str | None, name: str = "server", **settings: str) -> Server:
        return server(
            database,
            name,
            HEEDWELL_TWILIO_URL=sandbox.twilio_url,
            HEEDWELL_SENDGRID_URL=sandbox.sendgrid_url,
            HEEDWELL_ALLOW_PRIVATE_PROVIDERS="on",
            **settings,
        )

    return start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Shows the end of each process's output beside a failure."""
    report = yield
    if report.failed:
        for process in item.stash.get(_PROCESSES, []):
            report.sections.append((f"end of the log of {process.name}", process.tail()))
    return report

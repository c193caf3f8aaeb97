"""The processes of a run: one server on SQLite, or three on one PostgreSQL, and the provider stand-ins."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from messages import PATIENTS, mailbox, patient_id, phone
from profiles import Profile
from support import contract
from support.contract import directory
from support.links import Link, Links
from support.network import http
from support.postgres import Cluster
from support.practice import ACCOUNT_SID, AUTH_TOKEN, SERVICE_SID, Practice, relay, twilio
from support.processes import Sandbox, Server
from support.waiting import until

REPLICAS = 3
# A barrier that nobody comes to within so many seconds is not where it should be.
_REACHED = 30
# After a kill the client shall be back as soon as the server is.
_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class Barrier:
    """A file at which a server waits when it comes to the point that it was started with, for as long as the file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._reached = file.with_suffix(".reached")

    def set_up(self) -> None:
        self._reached.unlink(missing_ok=True)
        self.file.write_text("")

    @property
    def reached(self) -> bool:
        return self._reached.exists()

    def lift(self) -> None:
        self.file.unlink(missing_ok=True)


class World:
    """What a run acts on."""

    def __init__(self, folder: Path, profile: Profile, database: str, seed: int, settings: dict[str, str]) -> None:
        self.folder, self.profile = folder, profile
        self.cluster = Cluster() if database == "postgres" else None
        self.links = Links() if profile.links else None
        self.database_links: list[Link] = []
        self.server_links: list[Link] = []
        self.sandbox = Sandbox("sandbox", folder, f"--carrier-delay-ms={profile.carrier_delay_ms}")
        self.servers: list[Server] = []
        # Held by whoever starts, kills or pauses that server.
        self.locks = [threading.Lock() for _ in range(REPLICAS)]
        self.barriers = [Barrier(folder / f"barrier-{number}") for number in range(REPLICAS if self.cluster else 1)]
        self._settings = {"HEEDWELL_TEST_TIMES": profile.times, **settings}
        self.burst_time = 0
        try:
            self._start(seed)
        except BaseException:
            self.end()
            raise

    def _start(self, seed: int) -> None:
        self.sandbox.start()
        url = self.cluster.database() if self.cluster else None
        self.database = url or ""
        data = str(self.folder / "data")
        for number in range(REPLICAS if self.cluster else 1):
            settings = {
                "HEEDWELL_TWILIO_URL": self.sandbox.twilio_url,
                "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on",
                "HEEDWELL_SMS_PER_DAY": "unlimited",
                "HEEDWELL_SMS_PER_BLOCK": "unlimited",
                "HEEDWELL_CALLS_PER_SECOND": "unlimited",
                "HEEDWELL_DATA_DIR": data,
                "RUST_LOG": "info",
                **self._settings,
            }
            server = Server(f"server-{number}", self.folder, self._through_link(url, number), settings)
            self.servers.append(server)
            # One public address for all, as behind a load balancer.
            server.env["HEEDWELL_PUBLIC_URL"] = self.servers[0].url
            server.start()
            if self.links:
                self.server_links.append(self.links.to_address(server.grpc_address))
        hosts = [server.http_address for server in self.servers]
        self.sandbox.tell("dials", callback_hosts=hosts, clock_offset_ms=self.profile.clock_offset_ms)
        self.sandbox.tell("odds", seed=seed, **self.profile.odds)
        self.practice = Practice(self.servers[0], ttl="7d")
        service = {"messaging_service_sid": SERVICE_SID} if self.profile.messaging_service else {}
        self.practice.furnish(
            [patient(number) for number in range(PATIENTS)],
            sms=twilio(**service),
            email=relay(*self.sandbox.smtp),
        )
        self.metadata = self.practice.metadata
        # Who has nothing, and shall be shown nothing of anybody else's.
        self.neighbour = Practice(self.servers[0], "beta", ttl="7d")
        home = directory.Practice(legal_name="Beta", display_name="Beta", time_zone="America/New_York")
        request = directory.PutPracticeRequest(practice_id=self.neighbour.id, practice=home)
        self.neighbour.call(self.neighbour.directory.PutPractice, request)
        if self.profile.burst:
            self.burst_time = int(time.time() + self.profile.burst)

    def _through_link(self, url: str | None, number: int) -> str | None:
        if url is None or self.links is None or self.cluster is None:
            return url
        link = self.links.to_socket(self.cluster.socket, self.folder / f"link-{number}")
        self.database_links.append(link)
        return f"{url.partition('?')[0]}?host={link.address}"

    def addresses(self) -> list[str]:
        """Where clients reach the replicas."""
        return [link.address for link in self.server_links] or [server.grpc_address for server in self.servers]

    def channels(self) -> list[grpc.Channel]:
        """Connections of one's own, one to each replica."""
        return [grpc.insecure_channel(address, options=_CHANNEL) for address in self.addresses()]

    def stubs(self) -> list[Any]:
        """A client of each replica."""
        return [contract.notify_service_pb2_grpc.NotifyServiceStub(channel) for channel in self.channels()]

    def fates(self) -> dict[str, str]:
        """What the stand-in for Twilio says at last of each message, by its SID."""
        path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json?PageSize=1000&Page="
        found: dict[str, str] = {}
        for page in range(10_000):
            answer = http("GET", f"{self.sandbox.twilio_url}{path}{page}", login=(ACCOUNT_SID, AUTH_TOKEN)).json()
            found.update((it["sid"], it["status"]) for it in answer["messages"])
            if answer["next_page_uri"] is None:
                break
        return found

    def kill(self, number: int) -> None:
        """Kills a server and starts it again at once, without waiting for it."""
        with self.locks[number]:
            server = self.servers[number]
            if server.alive:
                server.kill()
            server.spawn_again()

    def arm(self, number: int, point: str) -> None:
        """Starts a server that shall die at a point, or at none."""
        with self.locks[number]:
            server = self.servers[number]
            if server.alive:
                server.kill()
            server.env["HEEDWELL_TEST_FAILPOINT"] = point
            server.spawn_again()
            # It holds for this life alone.
            del server.env["HEEDWELL_TEST_FAILPOINT"]

    def wait_at(self, point: str, nth: int = 0) -> None:
        """Starts every server anew, to wait at a point while its barrier stands: each time it comes there, or the nth alone."""
        for number, barrier in enumerate(self.barriers):
            self.arm(number, f"{point} {nth} {barrier.file}")
        for number in range(len(self.servers)):
            self.await_server(number)

    def hold_up(self, do: Callable[[], Any]) -> int:
        """Does what brings a server to its barrier, whichever it is, and says which; the others go by theirs."""
        for barrier in self.barriers:
            barrier.set_up()
        do()
        reached = lambda: [number for number, barrier in enumerate(self.barriers) if barrier.reached]  # noqa: E731
        holder = until("a server comes to its barrier", _REACHED, reached, pause=0.01)[0]
        for number, barrier in enumerate(self.barriers):
            if number != holder:
                barrier.lift()
        return holder

    def await_server(self, number: int) -> None:
        with self.locks[number]:
            server = self.servers[number]
            server.wait_for("/readyz says ready", server.ready)

    def revive(self) -> None:
        """Every server runs and is ready, every link is whole."""
        for link in (*self.database_links, *self.server_links):
            link.heal()
        for number, server in enumerate(self.servers):
            with self.locks[number]:
                if not server.alive:
                    server.spawn_again()
            self.await_server(number)

    def stop(self) -> list[str]:
        """Every server ends well and in time; says which lines of their logs hold private data."""
        for server in self.servers:
            server.stop()
        return [line for server in self.servers for line in server.leaks()]

    def end(self) -> None:
        for process in (*self.servers, self.sandbox):
            process.end()
        if self.links:
            self.links.close()
        if self.cluster:
            self.cluster.stop()


def patient(number: int) -> Any:
    """A patient, who has a number and a mailbox of their own."""
    return directory.Patient(
        patient_id=patient_id(number),
        first_name="Quillona",
        last_name="Featherstonehaugh",
        email=mailbox(number),
        mobile_phone=phone(number),
        portal_enabled=True,
    )

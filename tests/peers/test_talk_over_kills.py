"""Two watches of staff and one of the portal, on two servers over one PostgreSQL: they see each message once and in order, though
one server after the other is killed while patients and staff write, and each watch goes on with the other by its cursor.

That these tests can fail shows a build with `--features mutants` under HEEDWELL_TEST_MUTANT="resumed early" (a watch begins before
its cursor) or "serial feed" (a reader passes by what commits late)."""

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from twilio.request_validator import RequestValidator

from support import contract, seeds
from support.contract import conversations
from support.network import http
from support.postgres import Cluster
from support.practice import ACCOUNT_SID, AUTH_TOKEN, FROM_NUMBER, Practice, patient
from support.processes import Sandbox, Server
from support.talk import GONE, Reader, Talk, Told
from support.waiting import until

KILLS, SHARE, WRITERS = 10, 30, 3
# Those of pat, of ann, and one that is nobody's: of that the portal hears nothing.
PHONES = ("+12025550142", "+12025550143", "+12025550147")
PATIENTS = ("pat", "ann")
LAST = "the last text"


class Writers:
    """Patients and staff, who repeat what they say for as long as no server answers. What they say is numbered."""

    def __init__(self, servers: list[Server], practice: Practice, seed: int) -> None:
        self._servers, self._practice, self._seed = servers, practice, seed
        self._tokens = {role: servers[0].token(role, practice=practice.id) for role in ("staff", "portal")}
        self._permits = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._given = self.said = 0
        self._pool = ThreadPoolExecutor(WRITERS)
        self._done: list[Future[None]] = [self._pool.submit(self._run) for _ in range(WRITERS)]

    def permit(self, count: int) -> None:
        self._permits.release(count)

    def reached(self, count: int) -> bool:
        for future in self._done:
            if future.done():
                future.result()
        return self.said >= count

    def join(self) -> None:
        # Each finds that nothing is left to say.
        self._permits.release(WRITERS)
        for future in self._done:
            future.result(timeout=120)
        self._pool.shutdown()

    def _run(self) -> None:
        stubs = [
            contract.conversations_service_pb2_grpc.ConversationsServiceStub(server.channel()) for server in self._servers
        ]
        while True:
            self._permits.acquire()
            with self._lock:
                number = self._given
                self._given += 1
            if number >= KILLS * SHARE:
                return
            chance = random.Random(f"{self._seed} {number}")
            say = chance.choice((self._text, self._text, self._by_staff, self._by_portal))
            until(f"message {number} is taken", 120, lambda: say(stubs, number, chance), pause=0.01)
            with self._lock:
                self.said += 1

    def _text(self, _stubs: list[Any], number: int, chance: random.Random) -> bool:
        return self.text(chance.choice(self._servers), number, PHONES[number % 3], f"text {number}")

    def text(self, server: Server, number: int, sender: str, body: str) -> bool:
        """A text to the practice, by way of that server."""
        path = f"/webhooks/twilio/{self._practice.id}/inbound"
        form = {
            "AccountSid": ACCOUNT_SID,
            "Body": body,
            "From": sender,
            "MessageSid": f"SM{number:032x}",
            "NumMedia": "0",
            "To": FROM_NUMBER,
        }
        signature = RequestValidator(AUTH_TOKEN).compute_signature(self._servers[0].url + path, form)
        try:
            answer = http("POST", server.url + path, form=form, headers={"X-Twilio-Signature": signature}, limit=10)
        except OSError:
            return False
        assert answer.status in (200, 503), answer
        return answer.status == 200

    def _by_staff(self, stubs: list[Any], number: int, chance: random.Random) -> bool:
        # By the number: a repeat under the same key says the same.
        route = (conversations.MESSAGE_ROUTE_SMS, conversations.MESSAGE_ROUTE_PORTAL)[number // 2 % 2]
        return self._send("staff", stubs, number, chance, route)

    def _by_portal(self, stubs: list[Any], number: int, chance: random.Random) -> bool:
        return self._send("portal", stubs, number, chance, conversations.MESSAGE_ROUTE_PORTAL)

    def _send(self, role: str, stubs: list[Any], number: int, chance: random.Random, route: int) -> bool:
        request = conversations.SendMessageRequest(
            practice_id=self._practice.id,
            request_id=f"message-{number}",
            patient_id=PATIENTS[number % 2],
            route=route,
            body=f"{role} {number}",
        )
        metadata = (("authorization", f"Bearer {self._tokens[role]}"),)
        try:
            chance.choice(stubs).SendMessage(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() not in GONE:
                raise
            return False
        return True


@dataclass
class Run:
    """What a run left behind."""

    # Message ids by conversation, oldest first.
    listed: dict[str, list[str]]
    staff: list[Reader]
    portal: Reader


@pytest.fixture(scope="module")
def run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Run]:
    seed, _ = seeds.announced(request)
    folder = tmp_path_factory.mktemp("talk")
    sandbox = Sandbox("sandbox", folder)
    servers: list[Server] = []
    try:
        sandbox.start()
        servers += start(cluster.database(), sandbox, folder)
        yield play(servers, sandbox, seed)
        for server in servers:
            server.stop()
            assert not server.leaks(), f"the log holds private data, for example: {server.leaks()[0]}"
    finally:
        for process in (*servers, sandbox):
            process.end()


def start(database: str, sandbox: Sandbox, folder: Path) -> Iterator[Server]:
    """Two servers with the same keys and one address for both, as behind a load balancer."""
    public = ""
    for number in range(2):
        settings = {
            "HEEDWELL_TWILIO_URL": sandbox.twilio_url,
            "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on",
            "HEEDWELL_DATA_DIR": str(folder / "data"),
        }
        server = Server(f"server-{number}", folder, database, settings)
        public = public or server.url
        server.env["HEEDWELL_PUBLIC_URL"] = public
        yield server.start()


def play(servers: list[Server], sandbox: Sandbox, seed: int) -> Run:
    practice = Practice(servers[0]).furnish(
        [patient(it, mobile_phone=phone) for it, phone in zip(PATIENTS, PHONES, strict=False)], sandbox=sandbox
    )
    cursor = Talk(practice).cursor()
    readers = [
        Reader(practice, [it.channel() for it in servers], servers[0].token(role, practice=practice.id), cursor, place)
        for role, place in (("staff", 0), ("staff", 1), ("portal", 1))
    ]
    moments = random.Random(f"{seed} kills")
    writers = Writers(servers, practice, seed)
    for turn in range(KILLS):
        writers.permit(SHARE)
        count = turn * SHARE + moments.randrange(SHARE)
        until(f"{count} are said", 120, lambda count=count: writers.reached(count), pause=0.001)
        # What is left of this share is said while it is gone.
        servers[turn % 2].kill()
        servers[turn % 2].restart()
    writers.join()
    until("the last text is taken", 30, lambda: writers.text(servers[0], KILLS * SHARE, PHONES[0], LAST))
    for reader in readers:
        until("a watch tells of the last text", 60, lambda reader=reader: reader.said(LAST))
        reader.stop()
    listed = {it.conversation_id: [message.message_id for message in found][::-1] for it, found in Talk(practice).all()}
    return Run(listed, readers[:2], readers[2])


def new(told: list[Told]) -> dict[str, list[str]]:
    """The messages that were told of, by conversation, in the order in which that was."""
    found: dict[str, list[str]] = defaultdict(list)
    for it in told:
        if it.is_new:
            found[it.conversation_id].append(it.message_id)
    return dict(found)


def up_to_the_last(told: list[Told]) -> list[Told]:
    """What came later may have reached one watch and not yet the other."""
    return told[: next(place for place, it in enumerate(told) if it.body == LAST) + 1]


def test_every_message_is_there_once(run: Run) -> None:
    assert sum(map(len, run.listed.values())) == KILLS * SHARE + 1
    assert len(run.listed) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_staff_are_told_of_every_message_once_and_in_order(run: Run, number: int) -> None:
    assert new(run.staff[number].told) == run.listed


def test_both_watches_of_staff_tell_the_same(run: Run) -> None:
    one, other = (up_to_the_last(reader.told) for reader in run.staff)
    assert one == other


def test_the_portal_is_told_what_is_the_patients(run: Run) -> None:
    theirs = [it for it in up_to_the_last(run.staff[0].told) if it.patient_id]
    assert up_to_the_last(run.portal.told) == theirs
    assert len(new(theirs)) == 2


def test_every_watch_went_on_with_the_other_server(run: Run) -> None:
    # Else the other tests would prove nothing.
    assert all(reader.places == {0, 1} for reader in (*run.staff, run.portal))

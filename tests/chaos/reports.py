"""Reports that a run makes itself, signed as Twilio signs them; among them those that come before their attempt is known, as
after a backup was restored: its token is taken away meanwhile."""

import base64
import json
import random
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import count

import grpc
from clients import Clients, Directory, job
from journal import Journal
from messages import patient_id, phone
from support.contract import notify, types
from support.network import http
from support.practice import ACCOUNT_SID, AUTH_TOKEN, FROM_NUMBER
from support.waiting import until
from twilio.request_validator import RequestValidator
from world import World

# Patients of their own, so that nobody else writes to them.
_PARKED = 2_000
_LAST = 3_000


@dataclass(frozen=True)
class Attempt:
    """A message at the provider, and where its reports go."""

    sid: str
    url: str
    to: str

    @property
    def token(self) -> bytes:
        token = self.url.partition("#")[0].rpartition("/")[2]
        return base64.urlsafe_b64decode(token + "==")


class Reporter:
    """Finds messages in the provider's journal and reports on them."""

    def __init__(self, world: World, journal: Journal) -> None:
        self._world, self._journal = world, journal
        self._file = world.sandbox.journal_file.open()
        self._lock = threading.Lock()
        self._rest = ""
        self._seen: dict[str, Attempt] = {}

    def _read(self, to: str) -> Attempt | None:
        with self._lock:
            lines = (self._rest + self._file.read()).split("\n")
            self._rest = lines.pop()
            for line in lines:
                if '"twilio_create"' in line:
                    it = json.loads(line)
                    self._seen[it["to"]] = Attempt(it["sid"], it["status_callback"], it["to"])
            return self._seen.get(to)

    def attempt(self, to: str, limit: float = 60) -> Attempt | None:
        """The newest message to a number; None when there is none by then."""
        end = time.monotonic() + limit
        while (found := self._read(to)) is None and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def report(self, attempt: Attempt, status: str, replica: int, code: str = "") -> bool:
        """Whether the server took it."""
        form = {
            "AccountSid": ACCOUNT_SID,
            "From": FROM_NUMBER,
            "MessageSid": attempt.sid,
            "MessageStatus": status,
            "To": attempt.to,
            **({"ErrorCode": code} if code else {}),
        }
        url = attempt.url.partition("#")[0]
        signature = RequestValidator(AUTH_TOKEN).compute_signature(url, form)
        there = f"http://{self._world.servers[replica].http_address}/{url.split('/', 3)[3]}"
        try:
            answer = http("POST", there, form=form, headers={"X-Twilio-Signature": signature}, limit=10).status
        except OSError:
            return False
        self._journal.write(True, sid=attempt.sid, status=status, http_status=answer)
        return 200 <= answer < 300


class Parker:
    """Has reports come whose attempt is not known yet, again and again."""

    def __init__(self, world: World, clients: Clients, reporter: Reporter, journal: Journal, seed: int) -> None:
        self._world, self._clients, self._reporter, self._journal = world, clients, reporter, journal
        self._chance = random.Random(f"{seed} parker")
        self._stubs = world.stubs()
        # The patients of those reports.
        self.parked: list[str] = []
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            patients = Directory(self._world, "parker's replicas")
            for turn in count():
                number = _PARKED + turn
                if self._ended.is_set() or number >= _LAST:
                    return
                self._world.sandbox.tell("rules", recipient=phone(number), behaviour="no_callbacks")
                patients.put(number)
                asked = job("parked", number, number, 0)
                request = self._clients.request(asked)
                notification = self._clients.send("parker", self._stubs, asked, request, self._chance, "first")
                attempt = self._reporter.attempt(phone(number))
                if attempt is not None and self._is_sent(notification):
                    self._park(number, attempt)
        except BaseException as error:  # noqa: BLE001 - the run shows it.
            self._error = error

    def _is_sent(self, notification: str) -> bool:
        """Whether it came to be sent, so that nothing but a report can change it; a look may have found that it is delivered."""
        open_states = (types.DELIVERY_STATE_PENDING, types.DELIVERY_STATE_UNCONFIRMED)
        request = notify.GetNotificationRequest(practice_id=self._world.practice.id, notification_id=notification)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                stub = self._chance.choice(self._stubs)
                answer = stub.GetNotification(request, timeout=5, metadata=self._world.metadata)
                if not any(it.state in open_states for it in answer.notification.deliveries):
                    return all(it.state == types.DELIVERY_STATE_SENT for it in answer.notification.deliveries)
            except grpc.RpcError:
                pass
            time.sleep(0.05)
        return False

    def _park(self, number: int, attempt: Attempt) -> None:
        token, other = attempt.token, bytes(8) + attempt.token[:8]
        if not self._rename(token, other):
            return
        try:
            replicas = len(self._world.servers)
            until(
                "a report is taken",
                120,
                lambda: self._reporter.report(attempt, "delivered", self._chance.randrange(replicas)),
            )
            self._journal.write(True, parked=attempt.sid)
            self.parked.append(patient_id(number))
        finally:
            until("the attempt is back", 120, lambda: self._rename(other, token))

    def _rename(self, token: bytes, other: bytes) -> bool:
        """Whether an attempt had the token; then it has the other one."""
        if self._world.cluster is not None:
            one, two = (f"decode('{it.hex()}', 'hex')" for it in (other, token))
            said = self._world.cluster.execute(self._world.database, f"UPDATE attempt SET token = {one} WHERE token = {two}")
            return said == "UPDATE 1"
        file = self._world.folder / "data" / "heedwell.db"
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as db:
            return db.execute("UPDATE attempt SET token = ? WHERE token = ?", (other, token)).rowcount == 1

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=240)
        assert not self._thread.is_alive(), "the parker does not end"
        if self._error is not None:
            raise self._error

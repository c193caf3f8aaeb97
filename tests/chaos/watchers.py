"""Readers. A watcher follows deliveries from a cursor, on any replica, across every end of its streams, and writes down every
step before it keeps the step's cursor. A lister reads the list over and over."""

import random
import threading
import time
from typing import Any

import grpc
from journal import Journal
from messages import PATIENTS, patient_id
from support.contract import notify, types
from world import World

_HEARTBEAT = 5
# A database may be out of reach for a moment on a machine that is busy.
_TRIES = 10
# The contract: the server or the way to it is gone for now, so call again with the last cursor.
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)


def shown(delivery: Any) -> dict[str, Any]:
    """What a journal keeps of a delivery."""
    return {
        "id": delivery.delivery_id,
        "rev": delivery.revision,
        "state": types.DeliveryState.Name(delivery.state)[15:],
        "channel": types.Channel.Name(delivery.channel)[8:],
        "next": delivery.HasField("next_action_time"),
        "duplicate": delivery.possible_duplicate,
        "patient": delivery.patient_id,
        "reference": delivery.reference,
        "attempts": delivery.attempts,
        "at": round(delivery.update_time.ToMicroseconds() / 1e6, 6),
    }


def filters(count: int, chance: random.Random) -> list[dict[str, Any]]:
    """What the watchers look for: the first everything, the others a part."""
    kinds: list[dict[str, Any]] = [{}]
    while len(kinds) < count:
        some = [patient_id(number) for number in chance.sample(range(PATIENTS), 60)]
        kinds.append(
            chance.choice(
                [{}, {"channels": ["SMS"]}, {"channels": ["EMAIL", "IN_APP"]}, {"patients": some}, {"channels": ["SMS"], "patients": some}]
            )
        )
    return kinds


def to_filter(kept: dict[str, Any]) -> Any:
    channels = [types.Channel.Value(f"CHANNEL_{it}") for it in kept.get("channels", ())]
    return notify.DeliveryFilter(channels=channels, patient_ids=kept.get("patients", ()))


class Watcher:
    """One client of WatchDeliveries."""

    def __init__(self, world: World, journal: Journal, number: int, kept: dict[str, Any], cursor: str, seed: int) -> None:
        self._world, self._journal = world, journal
        self.name, self.filter = f"watcher-{number}", kept
        self._chance = random.Random(f"{seed} {self.name}")
        self._stubs = world.stubs()
        self._stopped = threading.Event()
        self._call: Any = None
        self._heard = time.monotonic()
        self.cursor = cursor
        # The server says that what the cursor stood for is gone, which it never may be here.
        self.lost = False
        # Highest revision of each delivery, to know when everything has come, and the state in which each send was told last.
        self.latest: dict[str, int] = {}
        self.told: dict[str, str] = {}
        self.error: BaseException | None = None
        journal.write(watcher=self.name, filter=kept, start=cursor)
        self._threads = [threading.Thread(target=it, daemon=True) for it in (self._run, self._watch_dog)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._follow()
        except BaseException as error:  # noqa: BLE001 - the run shows it.
            self.error = error

    def _follow(self) -> None:
        replica = self._chance.randrange(len(self._stubs))
        request = notify.WatchDeliveriesRequest(
            practice_id=self._world.practice.id,
            filter=to_filter(self.filter),
            cursor=self.cursor,
            heartbeat_interval={"seconds": _HEARTBEAT},
        )
        self._journal.write(watcher=self.name, open=replica)
        self._heard = time.monotonic()
        self._call = self._stubs[replica].WatchDeliveries(request, metadata=self._world.metadata)
        # Some break off by themselves, as a dashboard does whose page is left.
        steps = self._chance.choice([5, 20, 100, 10**9])
        try:
            for response in self._call:
                self._heard = time.monotonic()
                changes = [
                    {**shown(it.delivery), "before": types.DeliveryState.Name(it.previous_state)[15:]} for it in response.changes
                ]
                self._journal.write(watcher=self.name, cursor=response.cursor, changes=changes)
                for change in changes:
                    self.latest[change["id"]] = max(change["rev"], self.latest.get(change["id"], 0))
                    self.told[change["reference"]] = change["state"]
                # Kept only once the changes are: that is what makes a resume complete.
                self.cursor = response.cursor
                steps -= 1
                if steps == 0:
                    self._call.cancel()
            self._journal.write(watcher=self.name, end="OK")
        except grpc.RpcError as error:
            self._journal.write(watcher=self.name, end=error.code().name, detail=error.details())
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                self.lost = True
                self._stopped.set()
                return
            if error.code() not in _AGAIN and not self._stopped.is_set():
                raise
            # The contract's full jitter, shortened like the server's times.
            time.sleep(self._chance.uniform(0.01, 0.3))

    def _watch_dog(self) -> None:
        """A stream that says nothing for three heartbeats is dead, whatever TCP thinks of it."""
        while not self._stopped.wait(0.5):
            if time.monotonic() - self._heard > 3 * _HEARTBEAT and self._call is not None:
                self._call.cancel()

    def has(self, listed: list[dict[str, Any]]) -> bool:
        if self.error is not None:
            raise self.error
        return self.lost or all(self.latest.get(it["id"], 0) >= it["rev"] for it in listed if passes(self.filter, it))

    def stop(self) -> None:
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()
        for thread in self._threads:
            thread.join(timeout=20)
            assert not thread.is_alive(), f"{self.name} does not end"
        if self.error is not None:
            raise self.error


def passes(kept: dict[str, Any], delivery: dict[str, Any]) -> bool:
    """Whether a watch with that filter shows a delivery's changes."""
    channel = not kept.get("channels") or delivery["channel"] in kept["channels"]
    return channel and (not kept.get("patients") or delivery["patient"] in kept["patients"])


def list_all(world: World, stub: Any, **fields: Any) -> list[dict[str, Any]]:
    """The whole list."""
    found, token, failed = [], "", 0
    while True:
        request = notify.ListDeliveriesRequest(practice_id=world.practice.id, page_size=500, page_token=token, **fields)
        try:
            page = stub.ListDeliveries(request, timeout=30, metadata=world.metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            failed += 1
            if error.code() not in _AGAIN or failed == _TRIES:
                raise
            continue
        found += [shown(it) for it in page.deliveries]
        token = page.next_page_token
        if not token:
            return found


class Lister:
    """Reads the newest page of the list on any replica, again and again: between two reads no state may go back."""

    def __init__(self, world: World, journal: Journal, seed: int, pause: float) -> None:
        self._world, self._journal, self._pause = world, journal, pause
        self._chance = random.Random(f"{seed} lister")
        self._stubs = world.stubs()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            request = notify.ListDeliveriesRequest(practice_id=self._world.practice.id, page_size=500)
            try:
                page = self._chance.choice(self._stubs).ListDeliveries(request, timeout=10, metadata=self._world.metadata)
            except grpc.RpcError:
                continue
            self._journal.write(read=[shown(it) for it in page.deliveries])

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=20)


def replay(world: World, stub: Any, kept: dict[str, Any], cursor: str, most: int, checkpoints: int = 2) -> list[list[Any]]:
    """Up to so many changes after a cursor. It ends earlier when so many checkpoints come one after the other: the first step
    is one, and another one says that nothing is left."""
    request = notify.WatchDeliveriesRequest(
        practice_id=world.practice.id, filter=to_filter(kept), cursor=cursor, heartbeat_interval={"seconds": _HEARTBEAT}
    )
    found: list[list[Any]] = []
    for _ in range(_TRIES):
        found.clear()
        call = stub.WatchDeliveries(request, metadata=world.metadata, wait_for_ready=True)
        try:
            empty = 0
            for response in call:
                found += [[it.delivery.delivery_id, it.delivery.revision] for it in response.changes]
                empty = 0 if response.changes else empty + 1
                if empty == checkpoints or len(found) >= most:
                    break
            call.cancel()
            return found
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                # The oracle says what is missing.
                return found
            if error.code() not in _AGAIN:
                raise
    raise AssertionError("no watch comes to an end")

"""A client that follows deliveries by the loop that the contract describes, and remembers everything it was told."""

import threading
from typing import Any

import grpc

from .contract import notify, types
from .practice import Practice
from .waiting import until

# A stream that says nothing for three of its shortest heartbeats is dead, whatever TCP thinks of it.
_HEARTBEAT = 5
# These mean that the server or the way to it is gone for now: call again with the last cursor.
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)


class Follower:
    """Follows from a cursor until it is stopped, across every end of its streams."""

    def __init__(self, practice: Practice, cursor: str) -> None:
        self._practice = practice
        self._channel = practice.server.channel()
        self._method = type(practice.notify)(self._channel).WatchDeliveries
        self._stopped = threading.Event()
        self._call: Any = None
        self.cursor = cursor
        # Every change in the order in which it came.
        self.changes: list[Any] = []
        # How each stream ended.
        self.ends: list[grpc.StatusCode] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._follow()
        except BaseException as error:  # noqa: BLE001 - it is shown by the thread that asks.
            if not self._stopped.is_set():
                self.error = error

    def _follow(self) -> None:
        request = notify.WatchDeliveriesRequest(
            practice_id=self._practice.id, cursor=self.cursor, heartbeat_interval={"seconds": _HEARTBEAT}
        )
        self._call = self._method(request, metadata=self._practice.metadata, wait_for_ready=True)
        try:
            for response in self._call:
                self.changes.extend(response.changes)
                # Kept only once the changes are: that is what makes the resume complete.
                self.cursor = response.cursor
            self.ends.append(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            self.ends.append(error.code())
            if error.code() not in _AGAIN and not self._stopped.is_set():
                raise

    def stop(self) -> "Follower":
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the watch does not end"
        self._channel.close()
        if self.error is not None:
            raise self.error
        return self

    def latest(self) -> dict[str, Any]:
        """What a client would show: the highest revision of each delivery."""
        kept: dict[str, Any] = {}
        for change in list(self.changes):
            known = kept.get(change.delivery.delivery_id)
            if known is None or change.delivery.revision > known.revision:
                kept[change.delivery.delivery_id] = change.delivery
        return kept

    def wait(self, what: str, condition: Any, limit: float = 30) -> None:
        def look() -> Any:
            if self.error is not None:
                raise self.error
            return condition(self.latest())

        until(f"the watch shows {what}", limit, look)

    def caught_up(self, listed: dict[str, Any]) -> bool:
        """Whether everything that a list shows was seen here."""
        latest = self.latest()
        return all(it in latest and latest[it].revision >= listed[it].revision for it in listed)

    def agrees(self, listed: dict[str, Any]) -> bool:
        """Whether what was seen here is just what a list shows, and nothing newer."""
        if self.error is not None:
            raise self.error
        latest = self.latest()
        return {it: latest[it].revision for it in latest} == {it: listed[it].revision for it in listed}


def check_complete(changes: list[Any], listed: dict[str, Any]) -> None:
    """Checks that a watch told the whole life of every delivery, once and in order, up to what a list shows."""
    lives: dict[str, list[Any]] = {}
    for change in changes:
        lives.setdefault(change.delivery.delivery_id, []).append(change)
    assert set(lives) == set(listed), "the watch and the list name different deliveries"
    for delivery_id, life in lives.items():
        revisions = [change.delivery.revision for change in life]
        assert revisions == list(range(1, len(life) + 1)), f"{delivery_id}: revisions {revisions}"
        states = [change.delivery.state for change in life]
        before = [change.previous_state for change in life]
        assert before == [types.DELIVERY_STATE_UNSPECIFIED, *states[:-1]], f"{delivery_id}: {before} before {states}"
        last, shown = life[-1].delivery, listed[delivery_id]
        assert last == shown, f"{delivery_id}: the watch ended with\n{last}\nbut the list shows\n{shown}"

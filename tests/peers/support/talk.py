"""Conversations as their readers see them: listed, and watched."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from . import contract
from .contract import conversations, types
from .practice import Practice

# The server is gone: another one may answer, or this one later.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)


class Talk:
    """Conversations of a practice, as its staff list them."""

    def __init__(self, practice: Practice) -> None:
        self._practice = practice
        self._stub = contract.conversations_service_pb2_grpc.ConversationsServiceStub(practice.channel)

    def cursor(self) -> str:
        """Where to start a watch so that nothing after now is missed."""
        request = conversations.ListConversationsRequest(practice_id=self._practice.id, page_size=1)
        return self._practice.call(self._stub.ListConversations, request).watch_cursor

    def all(self) -> list[tuple[Any, list[Any]]]:
        """Every conversation with its messages, newest first."""
        request = conversations.ListConversationsRequest
        found = self._pages(self._stub.ListConversations, request, "conversations")
        return [(it, self.messages(it.conversation_id)) for it in found]

    def messages(self, conversation_id: str) -> list[Any]:
        """The messages of a conversation, newest first."""
        request = conversations.ListMessagesRequest
        return self._pages(self._stub.ListMessages, request, "messages", conversation_id=conversation_id)

    def _pages(self, method: Any, request: Any, name: str, **fields: Any) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            asked = request(practice_id=self._practice.id, page_size=200, page_token=token, **fields)
            page = self._practice.call(method, asked)
            found += getattr(page, name)
            token = page.next_page_token
            if not token:
                return found


@dataclass(frozen=True)
class Told:
    """A change with a message, as a watch told it."""

    conversation_id: str
    patient_id: str
    message_id: str
    body: str
    # Of the message's delivery, if it has one.
    state: int

    @property
    def is_new(self) -> bool:
        """Whether it tells of the message, and not of what became of it."""
        return self.state in (types.DELIVERY_STATE_UNSPECIFIED, types.DELIVERY_STATE_PENDING)


class Reader:
    """Watches all conversations from a cursor, and goes on with the next server whenever one is gone."""

    def __init__(self, practice: Practice, channels: Sequence[grpc.Channel], token: str, cursor: str, place: int) -> None:
        self._practice = practice.id
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._stubs = [contract.conversations_service_pb2_grpc.ConversationsServiceStub(it) for it in channels]
        self._cursor, self._place = cursor, place
        self._stopped = threading.Event()
        self._call: Any = None
        self._error: BaseException | None = None
        # What came, in the order in which it came.
        self.told: list[Told] = []
        # The servers that told something.
        self.places: set[int] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._follow()
                self._place = (self._place + 1) % len(self._stubs)
                # Both may be gone for a moment.
                self._stopped.wait(0.05)
        except BaseException as error:  # noqa: BLE001 - it is shown by the thread that asks.
            if not self._stopped.is_set():
                self._error = error

    def _follow(self) -> None:
        request = conversations.WatchConversationsRequest(practice_id=self._practice, cursor=self._cursor)
        self._call = self._stubs[self._place].WatchConversations(request, metadata=self._metadata)
        # Counts only with the cursor that comes with its end: a long step may come in parts.
        part: list[Told] = []
        try:
            for response in self._call:
                part += [_told(it) for it in response.changes if it.HasField("message")]
                if response.cursor != self._cursor:
                    self.told += part
                    self._cursor = response.cursor
                    self.places |= {self._place} if part else set()
                    part = []
        except grpc.RpcError as error:
            if error.code() not in GONE and not self._stopped.is_set():
                raise

    def said(self, body: str) -> bool:
        """Whether a message that says so was told."""
        if self._error is not None:
            raise self._error
        return any(it.body == body for it in list(self.told))

    def stop(self) -> None:
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the watch does not end"


def _told(change: Any) -> Told:
    conversation, message = change.conversation, change.message
    return Told(
        conversation.conversation_id, conversation.patient_id, message.message_id, message.body, message.delivery_state
    )

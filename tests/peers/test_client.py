"""A client generated from the contract sends, watches, loses its server and misses nothing; and the server explains itself
by the means that gRPC has for that: reflection, health, error details."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from support.contract import SERVICES, directory, notify, notify_service_pb2_grpc, types
from support.network import http
from support.practice import (
    DELIVERED,
    EMAIL,
    IN_APP,
    KINDS,
    SENT,
    SMS,
    Practice,
    patient,
)
from support.processes import Sandbox, Server
from support.waiting import until
from support.watching import Follower, check_complete

# Mail relays report no more than that they took it.
ARRIVED = {IN_APP: DELIVERED, EMAIL: SENT, SMS: DELIVERED}


# For what is decided before the database is asked, or whatever it says.
on_one_database = pytest.mark.parametrize("database", [None], ids=["sqlite"])


@pytest.fixture
def practice(sandboxed: Callable[..., Server], sandbox: Sandbox, database: str | None) -> Practice:
    return Practice(sandboxed(database)).furnish([patient()], sandbox=sandbox)


def test_each_kind_arrives_over_each_channel_and_the_watch_shows_every_step(
    practice: Practice, sandbox: Sandbox
) -> None:
    follower = Follower(practice, practice.cursor())
    sent = [practice.send(f"kind-{kind}", kind) for kind in KINDS]
    assert [types.NotificationKind.Name(it.kind) for it in sent] == [f"NOTIFICATION_KIND_{it.upper()}" for it in KINDS]
    for notification in sent:
        assert [it.channel for it in notification.deliveries] == [IN_APP, EMAIL, SMS]
        practice.wait_for(notification, ARRIVED)
    listed = practice.deliveries()
    follower.wait("what the list shows", lambda _: follower.caught_up(listed))
    check_complete(follower.stop().changes, listed)

    texts = sandbox.journal("twilio_create")
    assert sorted(it["sid"] for it in texts) == sorted(
        it.provider_message_id for it in listed.values() if it.channel == SMS
    )
    assert all(it["to"] == "+12025550142" and it["body"].startswith("Acme Primary Care: ") for it in texts)
    assert len(sandbox.journal("smtp_message")) == len(KINDS)


def test_a_watch_resumes_after_a_kill_with_its_last_cursor_and_neither_misses_nor_repeats(practice: Practice) -> None:
    server = practice.server
    follower = Follower(practice, practice.cursor())
    first = practice.send("before", "document_shared")
    practice.wait_for(first, ARRIVED)
    settled = practice.deliveries()
    follower.wait("the first notification", lambda _: follower.caught_up(settled))
    told = follower.stop().changes

    server.kill()
    server.restart()
    # What the server acknowledged before it was killed is still there, down to the revision.
    assert practice.deliveries() == settled

    resumed = Follower(practice, follower.cursor)
    second = practice.send("after", "payment_due")
    practice.wait_for(second, ARRIVED)
    listed = practice.deliveries()
    resumed.wait("the second notification", lambda _: resumed.caught_up(_new(listed, settled)))
    again = resumed.stop().changes
    assert {it.delivery.delivery_id for it in again} == {it.delivery_id for it in second.deliveries}
    check_complete([*told, *again], listed)


def _new(listed: dict[str, Any], settled: dict[str, Any]) -> dict[str, Any]:
    return {it: listed[it] for it in listed if it not in settled}


@on_one_database
def test_a_watch_answers_at_once_and_keeps_telling_that_it_lives(practice: Practice) -> None:
    request = notify.WatchDeliveriesRequest(practice_id=practice.id, heartbeat_interval={"seconds": 5})
    call = practice.notify.WatchDeliveries(request, metadata=practice.metadata, timeout=20)
    for response in (next(call), next(call)):
        assert response.cursor and not response.changes and response.HasField("server_time")
    call.cancel()


def test_a_server_told_to_stop_ends_watches_with_ok_and_says_that_it_is_not_ready(
    sandboxed: Callable[..., Server], sandbox: Sandbox, database: str | None
) -> None:
    # Two seconds between the word and the end, in which load balancers shall notice.
    server = sandboxed(database, HEEDWELL_DRAIN_SECONDS="2")
    practice = Practice(server).furnish([patient()], sandbox=sandbox)
    request = notify.WatchDeliveriesRequest(practice_id=practice.id)
    call = practice.notify.WatchDeliveries(request, metadata=practice.metadata, timeout=60)
    assert next(call).cursor
    server.terminate()
    until("/readyz says no", 2, lambda: http("GET", f"{server.url}/readyz").status == 503)
    for response in call:
        assert response.cursor
    assert call.code() is grpc.StatusCode.OK
    assert server.ended() == 0


@on_one_database
def test_reflection_lists_every_service_and_describes_it(practice: Practice) -> None:
    database = ProtoReflectionDescriptorDatabase(practice.channel)
    listed = set(database.get_services())
    assert {it for it in listed if it.startswith("heedwell.")} == set(SERVICES)
    for service in SERVICES:
        described = database.FindFileContainingSymbol(service)
        assert service.rpartition(".")[2] in [it.name for it in described.service]
    # A stream of the older protocol is still open on the channel, and nothing waits for it.
    practice.channel.close()


@on_one_database
def test_every_service_says_that_it_serves(practice: Practice) -> None:
    stub = health_pb2_grpc.HealthStub(practice.channel)
    for service in ("", *SERVICES):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="heedwell.v1.NoSuchService"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# Errors.


def fault(code: grpc.StatusCode, reason: str, call: Callable[[], Any]) -> dict[str, Any]:
    """Makes a call that has to fail so, and yields the details of the failure by the names of their types."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert error.code() is code, f"{error.code()}: {error.details()}"
    status = rpc_status.from_call(error)
    assert status is not None, "the error came without google.rpc.Status"
    assert status.code == code.value[0] and status.message == error.details()
    details: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        assert name not in details, f"{name} came twice"
        details[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(details[name])
    assert details["ErrorInfo"].domain == "heedwell.v1"
    assert details["ErrorInfo"].reason == reason
    return details


@on_one_database
def test_a_bad_request_names_every_bad_field_and_stores_nothing(practice: Practice) -> None:
    request = practice.request("bad\n", "payment_due", "no such patient")
    request.notification.payment_due.amount.currency_code = "dollars"
    request.notification.payment_due.link.target_url = "http://portal.acme.example/billing"
    request.notification.reference = "r" * 129
    details = fault(
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        lambda: practice.call(practice.notify.SendNotification, request),
    )
    fields = {it.field for it in details["BadRequest"].field_violations}
    assert fields >= {
        "request_id",
        "notification.patient_id",
        "notification.payment_due.amount.currency_code",
        "notification.payment_due.link.target_url",
        "notification.reference",
    }
    assert all(it.description for it in details["BadRequest"].field_violations)
    assert not practice.deliveries()


@on_one_database
def test_a_call_without_a_good_token_is_unauthenticated(practice: Practice) -> None:
    request = notify.ListDeliveriesRequest(practice_id=practice.id)
    header, body, signature = practice.token.split(".")
    forged = f"{header}.{body}.{signature[::-1]}"
    for metadata in ((), (("authorization", "Bearer none"),), (("authorization", f"Bearer {forged}"),)):
        fault(
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_INVALID",
            lambda: practice.notify.ListDeliveries(request, timeout=10, metadata=metadata),
        )


@on_one_database
def test_an_expired_token_is_unauthenticated(practice: Practice) -> None:
    token = practice.server.token("staff", practice=practice.id, ttl="1s")
    metadata = (("authorization", f"Bearer {token}"),)
    request = notify.ListDeliveriesRequest(practice_id=practice.id)

    def refused() -> bool:
        try:
            practice.notify.ListDeliveries(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            return True
        return False

    # Clocks may differ by half a minute before a token counts as expired.
    until("the token has expired", 60, refused, pause=1)


@on_one_database
def test_a_foreign_practice_and_one_that_does_not_exist_are_answered_alike(practice: Practice) -> None:
    Practice(practice.server, "other").furnish([patient("pat")])
    said = set()
    for other in ("other", "no-such-practice"):
        request = notify.ListDeliveriesRequest(practice_id=other)
        details = fault(
            grpc.StatusCode.PERMISSION_DENIED,
            "SCOPE_FORBIDDEN",
            lambda: practice.call(practice.notify.ListDeliveries, request),
        )
        said.add(str(sorted(details.items())).replace(other, "-"))
    assert len(said) == 1, said


@on_one_database
def test_a_role_that_lacks_the_right_is_told_which_role_has_it(practice: Practice) -> None:
    token = practice.server.token("auditor", practice=practice.id)
    details = fault(
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_REQUIRED",
        lambda: practice.notify.SendNotification(
            practice.request("r", "system"), timeout=10, metadata=(("authorization", f"Bearer {token}"),)
        ),
    )
    assert details["ErrorInfo"].metadata["required_role"]


@on_one_database
def test_an_unknown_patient_is_not_found(practice: Practice) -> None:
    details = fault(
        grpc.StatusCode.NOT_FOUND, "NOT_FOUND", lambda: practice.send("nobody", "system", "nobody-of-that-name")
    )
    assert details["ResourceInfo"].resource_name == "nobody-of-that-name"


def test_a_request_id_is_replayed_for_the_same_content_and_refused_for_other(practice: Practice) -> None:
    request = practice.request("once", "document_shared")
    first = practice.call(practice.notify.SendNotification, request)
    again = practice.call(practice.notify.SendNotification, request)
    assert not first.replayed and again.replayed
    assert again.notification.notification_id == first.notification.notification_id
    request.notification.document_shared.document_count = 3
    details = fault(
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
        lambda: practice.call(practice.notify.SendNotification, request),
    )
    assert details["ResourceInfo"].resource_name == first.notification.notification_id
    practice.wait_for(first.notification, ARRIVED)
    assert len(practice.deliveries()) == 3


@on_one_database
def test_a_cursor_of_another_practice_is_refused(practice: Practice) -> None:
    other = Practice(practice.server, "other").furnish([patient("pat")])
    request = notify.WatchDeliveriesRequest(practice_id=practice.id, cursor=other.cursor())
    fault(
        grpc.StatusCode.INVALID_ARGUMENT,
        "CURSOR_INVALID",
        lambda: next(practice.notify.WatchDeliveries(request, metadata=practice.metadata, timeout=20)),
    )


def test_an_etag_that_is_out_of_date_is_refused_with_the_current_one(practice: Practice) -> None:
    get = directory.GetPracticeRequest(practice_id=practice.id)
    stored = practice.call(practice.directory.GetPractice, get).practice
    old = directory.Practice()
    old.CopyFrom(stored)
    stored.locale = "en-CA"
    put = directory.PutPracticeRequest(practice_id=practice.id, practice=stored)
    changed = practice.call(practice.directory.PutPractice, put).practice
    details = fault(
        grpc.StatusCode.ABORTED,
        "ETAG_MISMATCH",
        lambda: practice.call(
            practice.directory.PutPractice, directory.PutPracticeRequest(practice_id=practice.id, practice=old)
        ),
    )
    assert details["ErrorInfo"].metadata["current_etag"] == changed.etag != old.etag

"""Twilio's own Python library signs what we have to accept, checks what our stand-in signs, and talks to it as a client."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from support.contract import notify
from support.listening import Listener, listening
from support.network import Answer, http
from support.practice import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    DELIVERED,
    FAILED,
    FROM_NUMBER,
    SENT,
    SERVICE_SID,
    SMS,
    Practice,
    patient,
    twilio,
)
from support.processes import Sandbox, Server
from support.waiting import until

# The sandbox carries texts to this number and calls nobody back, so that the tests have the only word.
SILENT = "+12025550122"
OTHER_TOKEN = "21098765432109876543210987654321"


class Attempt:
    """An accepted text message whose callbacks are up to the test."""

    def __init__(self, practice: Practice, sandbox: Sandbox, request_id: str = "text") -> None:
        self.practice = practice
        self.notification = practice.send(request_id, "document_shared", channels=[SMS])
        delivery = practice.wait_for(self.notification, {SMS: SENT})[SMS]
        self.id, self.sid = delivery.delivery_id, delivery.provider_message_id
        created = sandbox.wait_for_entry("the text", lambda it: it.get("sid") == self.sid)
        # The fragment tells Twilio how to retry; it is neither sent nor signed.
        self.url, _, fragment = created["status_callback"].partition("#")
        assert fragment == "rc=3&rp=all"
        assert self.url.startswith(f"{practice.server.url}/webhooks/twilio/{practice.id}/status/")

    def form(self, status: str, **fields: str) -> dict[str, str]:
        """The parameters of a status callback."""
        return {
            "AccountSid": ACCOUNT_SID,
            "ApiVersion": "2010-04-01",
            "From": FROM_NUMBER,
            "MessageSid": self.sid,
            "MessageStatus": status,
            "SmsSid": self.sid,
            "SmsStatus": status,
            "To": SILENT,
            **fields,
        }

    def now(self) -> Any:
        return self.practice.delivery(self.id)


def post(url: str, form: dict[str, str], signature: str | None) -> Answer:
    return http("POST", url, form=form, headers={} if signature is None else {"X-Twilio-Signature": signature})


def sign(url: str, form: dict[str, str], token: str = AUTH_TOKEN) -> str:
    return RequestValidator(token).compute_signature(url, form)


@pytest.fixture
def practice(sandboxed: Callable[..., Server], sandbox: Sandbox, database: str | None) -> Practice:
    return Practice(sandboxed(database)).furnish([patient(mobile_phone=SILENT)], sandbox=sandbox)


def test_callbacks_signed_by_twilios_library_are_accepted_and_move_the_delivery(
    practice: Practice, sandbox: Sandbox
) -> None:
    attempt = Attempt(practice, sandbox)
    for form, state in (
        (attempt.form("sent"), SENT),
        (attempt.form("delivered", RawDlrDoneDate="2611250703"), DELIVERED),
        # A parameter that nobody here has heard of, with characters that have to be encoded, and an empty one.
        (attempt.form("sent", NewParameter="Sí, mañana 👍 & más = ok", FromCity=""), DELIVERED),
    ):
        answer = post(attempt.url, form, sign(attempt.url, form))
        assert answer.status in (200, 204), answer
        assert attempt.now().state == state
    assert attempt.now().HasField("deliver_time")
    events = practice.call(
        practice.notify.GetNotification,
        notify.GetNotificationRequest(
            practice_id=practice.id, notification_id=attempt.notification.notification_id
        ),
    )
    assert {"sent", "delivered"} <= {it.provider_status for it in events.details[0].events}


def test_a_callback_that_comes_again_changes_nothing(practice: Practice, sandbox: Sandbox) -> None:
    attempt = Attempt(practice, sandbox)
    form = attempt.form("undelivered", ErrorCode="30005")
    assert post(attempt.url, form, sign(attempt.url, form)).status in (200, 204)
    before = attempt.now()
    assert before.state == FAILED and before.failure.provider_code == "30005"
    for _ in range(3):
        assert post(attempt.url, form, sign(attempt.url, form)).status in (200, 204)
    assert attempt.now() == before


def test_a_callback_that_twilio_did_not_sign_is_refused_and_changes_nothing(
    practice: Practice, sandbox: Sandbox
) -> None:
    attempt = Attempt(practice, sandbox)
    before = attempt.now()
    form = attempt.form("delivered")
    good = sign(attempt.url, form)
    refused = {
        "no signature": post(attempt.url, form, None),
        "an empty signature": post(attempt.url, form, ""),
        "an altered body": post(attempt.url, {**form, "MessageStatus": "undelivered"}, good),
        "an added parameter": post(attempt.url, {**form, "ErrorCode": "30005"}, good),
        "another Auth Token": post(attempt.url, form, sign(attempt.url, form, OTHER_TOKEN)),
        "another scheme": post(attempt.url, form, sign(attempt.url.replace("http:", "https:"), form)),
        "another path": post(f"{attempt.url}?x=1", form, good),
        "a practice that is not there": post(attempt.url.replace("/acme/", "/nobody/"), form, good),
    }
    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 403)
    assert attempt.now() == before
    # The same callback, signed well, goes through: nothing but the signatures was wrong.
    assert post(attempt.url, form, good).status in (200, 204)
    assert attempt.now().state == DELIVERED


def test_one_practice_cannot_speak_for_the_provider_of_another(practice: Practice, sandbox: Sandbox) -> None:
    attempt = Attempt(practice, sandbox)
    before = attempt.now()
    rival = Practice(practice.server, "rival").furnish(
        [patient(mobile_phone=SILENT)], sms=twilio(auth_token=OTHER_TOKEN)
    )
    url = attempt.url.replace("/acme/", "/rival/")
    assert url != attempt.url
    form = attempt.form("delivered")
    # Signed for the other practice's address, which has another token.
    assert post(url, form, sign(url, form)).status == 403
    # The rival knows its own token; with it the address of the attempt does not open, and under its own address the
    # attempt is not known. That is answered like any callback that may precede a restore.
    assert post(attempt.url, form, sign(attempt.url, form, OTHER_TOKEN)).status == 403
    assert post(url, form, sign(url, form, OTHER_TOKEN)).status in (200, 204)
    assert attempt.now() == before
    assert not rival.deliveries()


def test_both_auth_tokens_verify_while_one_replaces_the_other(practice: Practice, sandbox: Sandbox) -> None:
    attempt = Attempt(practice, sandbox)
    settings = practice.settings()
    settings.sms.secondary_auth_token = OTHER_TOKEN
    practice.update(settings, ["sms.secondary_auth_token"])
    for status, token in (("sent", AUTH_TOKEN), ("delivered", OTHER_TOKEN)):
        form = attempt.form(status)
        assert post(attempt.url, form, sign(attempt.url, form, token)).status in (200, 204)
    assert attempt.now().state == DELIVERED


# The stand-in, judged by Twilio's library.


class Local(TwilioHttpClient):
    """Leads Twilio's client to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", self._url), *args, **kwargs)


class _Webhook(BaseHTTPRequestHandler):
    """Takes webhooks and keeps them with their signatures."""

    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        self.server.received.append((self.server.url + self.path, form, self.headers["X-Twilio-Signature"]))
        reply = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_args: Any) -> None:
        """The test says what went wrong, not this."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening(_Webhook) as server:
        yield server


def client(sandbox: Sandbox) -> Client:
    return Client(ACCOUNT_SID, AUTH_TOKEN, http_client=Local(sandbox.twilio_url))


def test_twilios_library_confirms_what_the_stand_in_signs(sandbox: Sandbox, listener: Listener) -> None:
    message = client(sandbox).messages.create(
        to="+12025550142",
        messaging_service_sid=SERVICE_SID,
        body="Sí & más = ok",
        status_callback=f"{listener.url}/status?practice=p%20one&x=1#rc=3&rp=all",
    )
    until("three callbacks", 20, lambda: len(listener.received) == 3)
    sandbox.tell(
        "inbound",
        url=f"{listener.url}/inbound",
        account_sid=ACCOUNT_SID,
        **{"from": "+12025550142"},
        to=FROM_NUMBER,
        body="Sí, mañana 👍 & más = ok",
    )
    assert [form.get("MessageStatus") for _, form, _ in listener.received] == ["queued", "sent", "delivered", None]
    assert {form["MessageSid"] for _, form, _ in listener.received[:3]} == {message.sid}
    validator, stranger = RequestValidator(AUTH_TOKEN), RequestValidator(OTHER_TOKEN)
    for url, form, signature in listener.received:
        assert urlsplit(url).fragment == ""
        assert validator.validate(url, form, signature), url
        assert not stranger.validate(url, form, signature), url
        assert not validator.validate(url, {**form, "To": "+12025550143"}, signature), url


def test_twilios_client_creates_reads_and_lists_messages_at_the_stand_in(sandbox: Sandbox) -> None:
    messages = client(sandbox).messages
    created = messages.create(to="+12025550142", from_=FROM_NUMBER, body="Acme Primary Care: You have a new message.")
    assert created.status == "queued" and created.sid.startswith("SM") and created.date_created is not None
    until("the text is delivered", 20, lambda: messages(created.sid).fetch().status == "delivered")
    listed = messages.list(to="+12025550142", limit=20)
    assert [it.sid for it in listed] == [created.sid]
    assert listed[0].body == "Acme Primary Care: You have a new message."
    with pytest.raises(TwilioRestException) as caught:
        messages.create(to="+12025550112", from_=FROM_NUMBER, body="hi")
    assert (caught.value.status, caught.value.code) == (400, 21211)
    with pytest.raises(TwilioRestException) as caught:
        Client(ACCOUNT_SID, OTHER_TOKEN, http_client=Local(sandbox.twilio_url)).messages(created.sid).fetch()
    assert (caught.value.status, caught.value.code) == (401, 20003)

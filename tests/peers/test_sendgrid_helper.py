"""SendGrid's own Python library checks what our stand-in signs, agrees with us about signatures, and talks to the stand-in as
a client. `cryptography` signs what we have to accept."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from python_http_client.exceptions import BadRequestsError, UnauthorizedError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook
from sendgrid.helpers.mail import Mail

from support.listening import Listener, listening
from support.network import http
from support.practice import API_KEY, DELIVERED, EMAIL, FAILED, SENT, SKIPPED, Practice, patient, sendgrid
from support.processes import Sandbox, Server
from support.waiting import until

# The stand-in takes mail to this mailbox and tells nobody, so that the tests have the only word.
SILENT = "quiet@example.com"


class Account:
    """An account at SendGrid: the key that signs its events."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        # As SendGrid shows it.
        self.public = base64.b64encode(self.private.public_key().public_bytes(*form)).decode()

    def sign(self, timestamp: str, body: str) -> str:
        signature = self.private.sign((timestamp + body).encode(), ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signature).decode()

    def confirms(self, body: str, signature: str, timestamp: str) -> bool:
        """SendGrid's own opinion."""
        return EventWebhook(self.public).verify_signature(body, signature, timestamp)


class Attempt:
    """An accepted mail whose events are up to the test."""

    def __init__(self, practice: Practice, sandbox: Sandbox, account: Account) -> None:
        self.practice, self.account = practice, account
        notification = practice.send("mail", "document_shared", channels=[EMAIL])
        delivery = practice.wait_for(notification, {EMAIL: SENT})[EMAIL]
        self.id, self.message_id = delivery.delivery_id, delivery.provider_message_id
        taken = sandbox.wait_for_entry("the mail", lambda it: it.get("message_id") == self.message_id)
        self.arguments = taken["custom_args"]
        assert list(self.arguments) == ["n"]
        self.url = practice.settings().email.sendgrid.event_webhook_url
        assert self.url == f"{practice.server.url}/webhooks/sendgrid/{practice.id}"

    def event(self, word: str, **fields: Any) -> dict[str, Any]:
        return {
            "email": SILENT,
            "timestamp": int(time.time()),
            "smtp-id": f"<{self.message_id}@geopod-ismtpd-1>",
            "event": word,
            "sg_event_id": base64.b64encode(word.encode()).decode(),
            "sg_message_id": f"{self.message_id}.recvd-0000.1",
            **self.arguments,
            **fields,
        }

    def post(self, body: str, timestamp: str | None = None, signature: str | None = None, url: str = "") -> int:
        timestamp = timestamp or str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
            "X-Twilio-Email-Event-Webhook-Signature": signature or self.account.sign(timestamp, body),
        }
        return http("POST", url or self.url, form=body.encode(), headers=headers).status

    def tell(self, *events: dict[str, Any]) -> int:
        return self.post(json.dumps(events, ensure_ascii=False) + "\r\n")

    def now(self) -> Any:
        return self.practice.delivery(self.id)


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def practice(sandboxed: Callable[..., Server], account: Account, database: str | None) -> Practice:
    return Practice(sandboxed(database)).furnish([patient(email=SILENT)], email=sendgrid(account.public))


def test_events_that_are_signed_well_are_accepted_and_move_the_delivery(
    practice: Practice, sandbox: Sandbox, account: Account
) -> None:
    attempt = Attempt(practice, sandbox, account)
    for event, state in (
        (attempt.event("processed", **{"send_at": 0}), SENT),
        (attempt.event("deferred", response="451 4.7.1 Später", attempt="1", category=["ä", "b"]), SENT),
        (attempt.event("delivered", response="250 2.0.0 OK 👍", tls=1, pool={"name": "x", "id": 1}), DELIVERED),
        (attempt.event("processed"), DELIVERED),
        (attempt.event("bounce", type="bounce", status="5.1.1", reason="550 5.1.1 No such user"), FAILED),
    ):
        assert attempt.tell(event) in (200, 204)
        assert attempt.now().state == state, event["event"]
    assert attempt.now().failure.provider_code == "550 5.1.1"
    before = attempt.now()
    assert attempt.tell(*[attempt.event("delivered")] * 46) in (200, 204)
    assert attempt.now() == before


def test_a_complaint_ends_in_the_ledger(practice: Practice, sandbox: Sandbox, account: Account) -> None:
    attempt = Attempt(practice, sandbox, account)
    for _ in range(2):
        assert attempt.tell(attempt.event("spamreport")) in (200, 204)
    notification = practice.send("next", "document_shared", channels=[EMAIL])
    practice.wait_for(notification, {EMAIL: SKIPPED})


def test_sendgrids_library_and_the_server_agree_about_signatures(
    practice: Practice, sandbox: Sandbox, account: Account
) -> None:
    attempt = Attempt(practice, sandbox, account)
    before = attempt.now()
    timestamp, body = str(int(time.time())), json.dumps([attempt.event("delivered")]) + "\r\n"
    good = account.sign(timestamp, body)
    wrong = {
        "another account": (body, timestamp, Account().sign(timestamp, body)),
        "another time": (body, str(int(timestamp) + 1), good),
        "another event": (body.replace("delivered", "processed"), timestamp, good),
        "without the line's end": (body.rstrip(), timestamp, good),
        "written anew": (json.dumps(json.loads(body), indent=1), timestamp, good),
    }
    for name, (text, time_, signature) in wrong.items():
        assert not account.confirms(text, signature, time_), name
        assert attempt.post(text, time_, signature) == 403, name
    assert attempt.now() == before
    assert account.confirms(body, good, timestamp)
    # Under the address of another practice the same request is nobody's.
    rival = Practice(practice.server, "rival").furnish([patient()], email=sendgrid(Account().public))
    url = attempt.url.replace("/acme", f"/{rival.id}")
    assert attempt.post(body, timestamp, good, url) == 403
    assert attempt.post(body, timestamp, good) in (200, 204)
    assert attempt.now().state == DELIVERED


# The stand-in itself, against SendGrid's library.


class _Webhook(BaseHTTPRequestHandler):
    """An event webhook that keeps what it gets."""

    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        name = "X-Twilio-Email-Event-Webhook"
        self.server.received.append((body, self.headers[f"{name}-Signature"], self.headers[f"{name}-Timestamp"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """The test says what went wrong, not this."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening(_Webhook) as server:
        yield server


def mail(to: str) -> Mail:
    return Mail(
        from_email=("no-reply@mail.acme.example", "Acme Primary Care, PLLC"),
        to_emails=(to, "Pat Doe"),
        subject="New message",
        plain_text_content="Hello",
        html_content="<p>Hello</p>",
    )


def test_sendgrids_client_sends_by_the_stand_in_and_its_library_confirms_the_events(
    sandbox: Sandbox, listener: Listener
) -> None:
    told = sandbox.tell("sendgrid", api_key=API_KEY, webhook_url=f"{listener.url}/events")
    verifier = EventWebhook(told["public_key"])
    client = SendGridAPIClient(API_KEY, host=sandbox.sendgrid_url)
    answer = client.send(mail("complains@example.com"))
    assert answer.status_code == 202
    until("three batches", 20, lambda: len(listener.received) == 3)
    words = []
    for body, signature, timestamp in listener.received:
        assert verifier.verify_signature(body, signature, timestamp), body
        assert not verifier.verify_signature(body, signature, str(int(timestamp) + 1)), body
        assert not verifier.verify_signature(body.strip(), signature, timestamp), body
        [event] = json.loads(body)
        assert event["sg_message_id"].startswith(answer.headers["X-Message-Id"] + ".")
        words.append(event["event"])
    assert words == ["processed", "delivered", "spamreport"]
    with pytest.raises(BadRequestsError) as caught:
        client.send(mail("refused@example.com"))
    assert caught.value.to_dict["errors"][0]["field"] == "personalizations.0.to.0.email"
    with pytest.raises(UnauthorizedError):
        SendGridAPIClient("nobody", host=sandbox.sendgrid_url).send(mail("pat@example.com"))

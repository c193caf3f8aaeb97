"""Prism, with the providers' own descriptions of their APIs, judges every request for a text message and every mail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.network import http
from support.practice import (
    ACCOUNT_SID,
    API_KEY,
    AUTH_TOKEN,
    EMAIL,
    FROM_NUMBER,
    KINDS,
    SENT,
    SERVICE_SID,
    SMS,
    Practice,
    patient,
    sendgrid,
    twilio,
)
from support.processes import Prism, Process, Server
from support.waiting import until

PASSED = "The request passed the validation rules"
RECEIVED = f"post /2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
# What Prism writes when it finds fault.
FAULTS = ("did not pass", "error", "warning", "✖", "⚠")


@pytest.fixture
def prism(processes: list[Process], tmp_path: Path) -> Prism:
    process = Prism("prism", tmp_path, "twilio_messages_v2010.json")
    processes.append(process)
    return process.start()


@pytest.fixture
def sendgrid_prism(processes: list[Process], tmp_path: Path) -> Prism:
    process = Prism("prism", tmp_path, "sendgrid_mail_v3.json")
    processes.append(process)
    return process.start()


def requests(prism: Prism, received: str = RECEIVED) -> int:
    return sum(received in line and "Request received" in line for line in prism.said().splitlines())


@pytest.mark.parametrize(
    ("sender", "fields"),
    [("from a number", {"from_number": FROM_NUMBER}), ("by a messaging service", {"messaging_service_sid": SERVICE_SID})],
    ids=["from_number", "messaging_service"],
)
def test_twilios_own_description_admits_every_text_message(
    server: Callable[..., Server], prism: Prism, sender: str, fields: dict[str, str]
) -> None:
    # One database is enough: it has no say in what a request looks like.
    running = server(None, HEEDWELL_TWILIO_URL=prism.url, HEEDWELL_ALLOW_PRIVATE_PROVIDERS="on")
    for kind in KINDS:
        # Prism answers every create with one and the same SID, which a practice can meet only once.
        practice = Practice(running, f"acme-{kind}").furnish([patient()], sms=twilio(**fields))
        notification = practice.send(f"{kind} {sender}", kind, channels=[SMS])
        delivery = practice.wait_for(notification, {SMS: SENT})[SMS]
        assert delivery.attempts == 1, f"{kind}: {delivery.attempts} attempts"
        assert delivery.provider == "twilio" and delivery.provider_message_id.startswith("SM")
    until("Prism's log tells of every request", 10, lambda: prism.said().count('Responding with "201"') == len(KINDS))
    said = prism.said()
    assert requests(prism) == said.count(PASSED) == len(KINDS), said
    faults = [line for line in said.splitlines() if any(it in line for it in FAULTS)]
    assert not faults, "\n".join(faults)


def test_prism_refuses_requests_that_are_wrong(prism: Prism) -> None:
    url = f"{prism.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    good = {
        "To": "+12025550142",
        "From": FROM_NUMBER,
        "Body": "Acme Primary Care: You have a new message.",
        "ValidityPeriod": "36000",
        "StatusCallback": "https://notify.example.com/webhooks/twilio/acme/status/token#rc=3&rp=all",
    }
    login = (ACCOUNT_SID, AUTH_TOKEN)

    def status(**changes: str | None) -> int:
        form = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return http("POST", url, form=form, login=login).status

    assert status() == 201
    assert status(To=None) == 422
    assert status(ValidityPeriod="soon") == 422
    assert status(From=None, MessagingServiceSid="MG1") == 422
    assert http("POST", url.replace(ACCOUNT_SID, "AC1"), form=good, login=login).status == 422
    assert http("POST", url, document=good, login=login).status == 415
    assert http("POST", url, form=good).status == 401
    faults = [line for line in prism.said().splitlines() if any(it in line for it in FAULTS)]
    assert faults, "Prism's log does not show what it refused, so that a clean log would prove nothing"


def test_a_provider_that_gives_one_sid_to_several_messages_spoils_no_verdict(
    server: Callable[..., Server], prism: Prism
) -> None:
    # Twilio never should, Prism always does; what else was settled in the same batch must not fall into doubt for it.
    running = server(None, HEEDWELL_TWILIO_URL=prism.url, HEEDWELL_ALLOW_PRIVATE_PROVIDERS="on")
    practice = Practice(running).furnish([patient()], sms=twilio())
    sent = [practice.send(f"sid-{number}", "document_shared", channels=[SMS]) for number in range(6)]
    for notification in sent:
        assert practice.wait_for(notification, {SMS: SENT})[SMS].attempts == 1


# Of SendGrid's own tests (sendgrid/sendgrid-python, test_eventwebhook.py); nothing is verified here.
WEBHOOK_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
)


def test_sendgrids_own_description_admits_every_mail(server: Callable[..., Server], sendgrid_prism: Prism) -> None:
    prism = sendgrid_prism
    running = server(None, HEEDWELL_SENDGRID_URL=prism.url, HEEDWELL_ALLOW_PRIVATE_PROVIDERS="on")
    email = sendgrid(WEBHOOK_KEY) | {"reply_to_address": "desk@acme.example", "from_name": "Acme; Primary, Care"}
    practice = Practice(running).furnish([patient(last_name='Feather"stonehaugh, Jr.')], email=email)
    for kind in KINDS:
        notification = practice.send(kind, kind, channels=[EMAIL])
        delivery = practice.wait_for(notification, {EMAIL: SENT})[EMAIL]
        assert (delivery.attempts, delivery.provider) == (1, "sendgrid"), kind
    until("Prism's log tells of every request", 10, lambda: prism.said().count('Responding with "202"') == len(KINDS))
    said = prism.said()
    assert requests(prism, "post /v3/mail/send") == said.count(PASSED) == len(KINDS), said
    # A 202 has no body, which Prism looks for in vain.
    lines = [line for line in said.splitlines() if "Unable to find content for" not in line]
    faults = [line for line in lines if any(it in line for it in FAULTS)]
    assert not faults, "\n".join(faults)


def test_prism_refuses_mails_that_are_wrong(sendgrid_prism: Prism) -> None:
    url = f"{sendgrid_prism.url}/v3/mail/send"
    good = {
        "personalizations": [{"to": [{"email": "pat@example.com"}], "custom_args": {"n": "token"}}],
        "from": {"email": "no-reply@mail.acme.example"},
        "subject": "New message",
        "content": [{"type": "text/plain", "value": "Hello"}],
    }
    key = {"Authorization": f"Bearer {API_KEY}"}

    def status(**changes: object) -> int:
        mail = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return http("POST", url, document=mail, headers=key).status

    assert status() == 202
    for name, wrong in (
        ("personalizations", None),
        ("personalizations", [{"custom_args": {"n": "token"}}]),
        ("personalizations", [{"to": [{"email": "nobody"}]}]),
        ("from", None),
        ("subject", 5),
        ("content", [{"type": "text/plain"}]),
        ("headers", "none"),
        ("tracking_settings", {"click_tracking": {"enable": "off"}}),
    ):
        assert status(**{name: wrong}) == 400, (name, wrong)
    assert http("POST", url, document=good).status == 401
    faults = [line for line in sendgrid_prism.said().splitlines() if any(it in line for it in FAULTS)]
    assert faults, "Prism's log does not show what it refused, so that a clean log would prove nothing"

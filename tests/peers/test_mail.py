"""aiosmtpd takes the mail as a relay on the Internet would, over TLS and after a log-in, and Python's own parser reads it."""

import base64
import datetime
import email
import email.header
import email.policy
import html.parser
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.contract import directory, notify, preferences, types
from support.network import free_port
from support.practice import EMAIL, KINDS, PENDING, SENT, Practice, patient, relay
from support.processes import Server

USER, PASSWORD = "acme-relay", "a-made-up-password-for-the-relay"

SUBJECTS = {
    "appointment_reminder": "Appointment Reminder",
    "appointment_confirmed": "Appointment Confirmed",
    "appointment_cancelled": "Appointment Canceled",
    "payment_due": "Payment Due",
    "payment_received": "Payment Received",
    "payment_failed": "Payment Unsuccessful",
    "message_received": "New Message",
    "document_shared": "Documents to Sign",
    "system": "Security Alert",
}
_VISIT = ("45 minutes", "Dr. Ray", "North Office", "500 Elm Street, Suite 3")
_PAYMENT = ("$1,234.50", "INV-2041", "Visa 4242")
# What both parts of a mail must tell, beside the greeting and the practice.
FACTS = {
    **{kind: _VISIT for kind in KINDS if kind.startswith("appointment_")},
    **{kind: _PAYMENT for kind in KINDS if kind.startswith("payment_")},
    "message_received": ("Dr. Ray",),
    "document_shared": ("New patient form", "Privacy notice"),
    "system": ("New sign-in", "Somebody signed in to your portal account from a new device."),
}


class Authority:
    """A certification authority of our own, with its certificate in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(
            self._name, self._key, [(x509.BasicConstraints(ca=True, path_length=0), True), (_usage(ca=True), True)]
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[Any]) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, host: str) -> ssl.SSLContext:
        """What a relay of that name proves itself with."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        leaf = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]),
            key,
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (_usage(ca=False), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                (x509.SubjectAlternativeName(names), False),
            ],
        )
        file = self._folder / f"{host}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context


def _usage(ca: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
        False,
    )
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **others)


@dataclass
class Mail:
    """A mail as the relay got it."""

    sender: str
    recipients: list[str]
    content: bytes
    encrypted: bool
    login: bytes | None

    def parse(self) -> EmailMessage:
        message = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class Relay:
    """aiosmtpd, which keeps what it takes."""

    mails: list[Mail] = field(default_factory=list)
    # Said to the next final dots instead of 250, after keeping the mail in `refused`.
    refusals: list[str] = field(default_factory=list)
    refused: list[Mail] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail = Mail(
            envelope.mail_from,
            list(envelope.rcpt_tos),
            bytes(envelope.content),
            session.ssl is not None,
            session.auth_data.login if session.authenticated else None,
        )
        if self.refusals:
            self.refused.append(mail)
            return self.refusals.pop(0)
        self.mails.append(mail)
        return "250 2.0.0 Queued"


class Listening(Controller):
    """Counts connections beside serving them."""

    def factory(self) -> Any:
        self.handler.connections += 1
        return super().factory()


StartRelay = Callable[..., Relay]


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Starts a relay: with TLS and a log-in, or (`tls=None`) with neither."""
    running: list[Controller] = []

    def start(tls: ssl.SSLContext | None, port: int | None = None) -> Relay:
        kept = Relay(port=port or free_port())

        def admit(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
            good = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
            return AuthResult(success=good, auth_data=data, handled=False)

        protected = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": admit}
        controller = Listening(
            kept, hostname="127.0.0.1", port=kept.port, ready_timeout=30, **(protected if tls else {})
        )
        controller.start()
        running.append(controller)
        # It tried itself out.
        kept.connections = 0
        return kept

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "the-relays-authority")


StartPractice = Callable[..., Practice]


@pytest.fixture
def start_practice(server: Callable[..., Server]) -> StartPractice:
    """Starts a server that trusts an authority, and a practice that sends through a relay."""

    def start(relay_: Relay, trusted: Path | None, *, password: str = PASSWORD, **settings: str) -> Practice:
        settings.setdefault("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "on")
        # The database has no say in what a mail looks like, so one is enough.
        running = server(None, **({"SSL_CERT_FILE": str(trusted)} if trusted else {}), **settings)
        login = {"username": USER, "password": password} if trusted else {}
        return Practice(running).furnish([patient()], email=relay("localhost", relay_.port, **login))

    return start


class Seen(html.parser.HTMLParser):
    """What a reader of HTML sees, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.links: list[str] = []
        self._hidden = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "title")
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]
        assert tag not in ("script", "iframe", "form", "img", "link"), f"<{tag}> in a mail"

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_form(mail: Mail) -> tuple[EmailMessage, str, Seen]:
    """Checks what holds for every mail, and yields it with its two parts."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", mail.content), "a line does not end in CRLF"
    assert mail.content.isascii() and max(map(len, mail.content.split(b"\r\n"))) <= 998
    message = mail.parse()
    for part in message.walk():
        assert not part.defects, part.defects
        for name, value in part.items():
            assert not value.defects, f"{name}: {value.defects}"
            assert len(part.get_all(name)) == 1, f"{name} stands there twice"
    assert message.get_content_type() == "multipart/alternative"
    plain, rich = message.iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert message["MIME-Version"] == "1.0"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Bcc"] is None
    age = datetime.datetime.now(datetime.UTC) - message["Date"].datetime
    assert datetime.timedelta(seconds=-2) <= age < datetime.timedelta(minutes=5), message["Date"]
    return message, plain.get_content(), Seen(rich.get_content())


def test_each_kind_arrives_over_tls_well_formed_and_with_the_same_facts_in_both_parts(
    start_relay: StartRelay, start_practice: StartPractice, authority: Authority
) -> None:
    kept = start_relay(authority.context("localhost"))
    practice = start_practice(kept, authority.file)
    identifiers = set()
    for kind in KINDS:
        kept.mails.clear()
        notification = practice.send(kind, kind, channels=[EMAIL], custom_content="Please bring your insurance card.")
        delivery = practice.wait_for(notification, {EMAIL: SENT})[EMAIL]
        assert delivery.attempts == 1 and not delivery.possible_duplicate

        [mail] = kept.mails
        assert mail.encrypted and mail.login == USER.encode()
        assert (mail.sender, mail.recipients) == ("no-reply@mail.acme.example", ["quillona@example.com"])
        message, text, seen = check_form(mail)
        [sender], [recipient] = message["From"].addresses, message["To"].addresses
        assert (sender.display_name, sender.addr_spec) == ("Acme Primary Care", "no-reply@mail.acme.example")
        assert recipient.addr_spec == "quillona@example.com"
        assert recipient.display_name == "Quillona Featherstonehaugh"
        assert message["Subject"] == f"{SUBJECTS[kind]} - Acme Primary Care"
        identifier = message["Message-ID"].strip()
        assert identifier == f"<{delivery.delivery_id.replace('-', '')}@mail.acme.example>"
        identifiers.add(identifier)

        # The wording shown to staff is the wording that was sent.
        full = notify.GetNotificationRequest(
            practice_id=practice.id,
            notification_id=notification.notification_id,
            view=notify.NOTIFICATION_VIEW_FULL,
        )
        content = practice.call(practice.notify.GetNotification, full).details[0].content
        assert text.strip().replace("\r\n", "\n") == content.text.strip()

        for fact in (*FACTS[kind], "Hi Quillona,", "Please bring your insurance card.", "(202) 555-0100"):
            assert fact in text, f"{kind}: {fact!r} is missing in the plain text"
            assert fact in seen.text, f"{kind}: {fact!r} is missing in the HTML"
        # Every detail of the plain text, the ones that depend on the day included, stands in the HTML as well.
        details = dict(re.findall(r"^([A-Z][\w ]+): (\S.*?)\r?$", text, re.MULTILINE))
        for label, value in details.items():
            if value.startswith("http"):
                assert value in seen.links and label in seen.text, f"{kind}: {label} leads elsewhere in the HTML"
            else:
                assert f"{label}" in seen.text and value in seen.text, f"{kind}: {label}: {value} is missing in the HTML"
        links = set(re.findall(r"https?://\S+", text))
        assert links == {it for it in seen.links if it.startswith("http")}
        [way_out] = {it for it in links if it.startswith(f"{practice.server.url}/u/")}
        assert f"Unsubscribe from these emails: {way_out}" in text
        if kind != "system":
            [address] = links - {way_out}
            assert address.startswith(f"{practice.server.url}/l/"), "the target is not behind a secure link"
    assert len(identifiers) == len(KINDS)


def test_a_name_beyond_ascii_or_with_marks_of_the_header_stays_a_name(
    start_relay: StartRelay, start_practice: StartPractice, authority: Authority
) -> None:
    kept = start_relay(authority.context("localhost"))
    practice = start_practice(kept, authority.file)
    practice.put([patient(first_name='Zoë, "Zed" <z@example.org>', last_name="O’Neil-Åström")])
    stored = practice.call(practice.directory.GetPractice, directory.GetPracticeRequest(practice_id=practice.id)).practice
    stored.display_name = "Clínica Ñandú; Bcc: a@b"
    practice.call(
        practice.directory.PutPractice, directory.PutPracticeRequest(practice_id=practice.id, practice=stored)
    )
    practice.wait_for(practice.send("names", "payment_due", channels=[EMAIL]), {EMAIL: SENT})
    [mail] = kept.mails
    assert mail.recipients == ["quillona@example.com"]
    message, text, seen = check_form(mail)
    [sender], [recipient] = message["From"].addresses, message["To"].addresses
    assert (sender.addr_spec, recipient.addr_spec) == ("no-reply@mail.acme.example", "quillona@example.com")
    assert decoded(mail, "From") == "Clínica Ñandú; Bcc: a@b <no-reply@mail.acme.example>"
    assert decoded(mail, "To") == 'Zoë, "Zed" <z@example.org> O’Neil-Åström <quillona@example.com>'
    assert message["Subject"] == "Payment Due - Clínica Ñandú; Bcc: a@b"
    assert 'Hi Zoë, "Zed" <z@example.org>,' in text and 'Hi Zoë, "Zed" <z@example.org>,' in seen.text


def decoded(mail: Mail, name: str) -> str:
    """A header with its encoded words read. Where two of them stand side by side in a name, the structured parser keeps the
    space between them, which RFC 2047 (6.2) tells readers to drop; the older decoder drops it."""
    raw = email.message_from_bytes(mail.content, policy=email.policy.compat32)[name]
    return str(email.header.make_header(email.header.decode_header(raw)))


def test_a_mail_that_is_tried_again_keeps_its_message_id(
    start_relay: StartRelay, start_practice: StartPractice, authority: Authority
) -> None:
    kept = start_relay(authority.context("localhost"))
    kept.refusals.append("451 4.3.0 Try again later")
    practice = start_practice(kept, authority.file)
    delivery = practice.wait_for(practice.send("again", "document_shared", channels=[EMAIL]), {EMAIL: SENT})[EMAIL]
    assert delivery.attempts == 2
    # The relay said that it had not taken the first, so nobody can have it twice.
    assert not delivery.possible_duplicate
    [first], [second] = kept.refused, kept.mails
    assert first.parse()["Message-ID"] == second.parse()["Message-ID"]


def tried_in_vain(practice: Practice) -> Any:
    """Waits until a mail was tried and is still to be sent, and yields what its timeline says of the last attempt."""
    notification = practice.send("in-vain", "document_shared", channels=[EMAIL])
    [delivery] = notification.deliveries

    def tried(found: dict[str, Any]) -> bool:
        now = found[delivery.delivery_id]
        assert now.state == PENDING, types.DeliveryState.Name(now.state)
        return now.attempts >= 1 and now.HasField("next_action_time")

    practice.wait("a first attempt in vain", tried)
    request = notify.GetNotificationRequest(
        practice_id=practice.id, notification_id=notification.notification_id
    )
    events = practice.call(practice.notify.GetNotification, request).details[0].events
    return [it for it in events if it.provider_code][-1]


@pytest.mark.parametrize("case", ["of an unknown authority", "of another name"])
def test_a_relay_with_a_certificate_that_proves_nothing_gets_no_mail(
    case: str, start_relay: StartRelay, start_practice: StartPractice, authority: Authority, tmp_path: Path
) -> None:
    if case == "of another name":
        kept, trusted = start_relay(authority.context("relay.example")), authority.file
    else:
        kept, trusted = start_relay(authority.context("localhost")), Authority(tmp_path, "somebody-else").file
    practice = start_practice(kept, trusted)
    assert tried_in_vain(practice).provider_code == "tls"
    assert kept.connections >= 1 and not kept.mails


def test_a_relay_that_knows_another_password_gets_no_mail_and_the_setup_check_says_so(
    start_relay: StartRelay, start_practice: StartPractice, authority: Authority
) -> None:
    kept = start_relay(authority.context("localhost"))
    practice = start_practice(kept, authority.file, password="a-password-of-last-year")
    assert tried_in_vain(practice).provider_code.startswith("535")
    assert not kept.mails
    [status] = [it for it in practice.settings().channel_statuses if it.channel == EMAIL]
    assert status.findings, "the setup check does not tell that the relay refuses"


def test_a_relay_without_starttls_is_used_only_where_private_providers_are_allowed_and_only_on_this_machine(
    start_relay: StartRelay, start_practice: StartPractice
) -> None:
    kept = start_relay(None)
    practice = start_practice(kept, None, name="permitted")
    practice.wait_for(practice.send("plain", "document_shared", channels=[EMAIL]), {EMAIL: SENT})
    [mail] = kept.mails
    assert not mail.encrypted
    check_form(mail)

    # Without the permission it is not even connected to, and settings name no port but those of relays.
    kept = start_relay(None, port=2525)
    practice = start_practice(kept, None, name="forbidden", HEEDWELL_ALLOW_PRIVATE_PROVIDERS="off")
    assert tried_in_vain(practice).provider_code == "private address"
    assert not kept.mails and kept.connections == 0


# What a signature has to cover where it is there (RFC 6376, section 5.4.1; RFC 8058, section 4), and once more than it is there.
SIGNED = (
    "from", "to", "subject", "date", "message-id", "mime-version", "content-type", "list-unsubscribe",
    "list-unsubscribe-post", "list-id", "auto-submitted", "feedback-id",
)  # fmt: skip


def new_key(kind: str) -> tuple[str, bytes]:
    """A private key in PEM, and its public half as the DNS is to publish it."""
    key: Any
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        raw = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), base64.b64encode(key.public_key().public_bytes(*raw))


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_mail_signed_with_the_practices_key_is_verified_by_another_program(
    kind: str, start_relay: StartRelay, start_practice: StartPractice
) -> None:
    kept = start_relay(None)
    practice = start_practice(kept, None, HEEDWELL_PUBLIC_URL="https://reach.acme.example")
    pem, public = new_key(kind)
    practice.server.private.update(line for line in pem.splitlines() if "-" not in line)
    settings = preferences.PracticeSettings()
    settings.email.dkim_domain, settings.email.dkim_selector = "acme.example", "heedwell1"
    settings.email.dkim_private_key = pem
    paths = ["email.dkim_domain", "email.dkim_selector", "email.dkim_private_key"]
    shown = practice.update(settings, paths).email
    assert shown.dkim_key_set and not shown.dkim_private_key
    assert shown.dkim_record_name == "heedwell1._domainkey.acme.example"
    assert shown.dkim_record.encode() == b"v=DKIM1; k=" + kind.encode() + b"; p=" + public

    practice.wait_for(practice.send("signed", "document_shared", channels=[EMAIL]), {EMAIL: SENT})
    [mail] = kept.mails
    check_form(mail)

    def published(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"heedwell1._domainkey.acme.example.", name
        return shown.dkim_record.encode()

    def verifies(content: bytes) -> bool:
        return dkim.verify(content, dnsfunc=published)

    assert verifies(mail.content)
    message = mail.parse()
    tags = dict(re.findall(r"(\w+)=([^;]*)", "".join(message["DKIM-Signature"].split())))
    assert tags["a"] == f"{kind}-sha256" and tags["c"] == "relaxed/relaxed" and tags["d"] == "acme.example"
    named = tags["h"].split(":")
    for name in SIGNED:
        assert len(message.get_all(name) or []) == 1, name
        assert named.count(name) == 2, f"{name} is not named once more than it is there"

    # What may happen on the way does no harm.
    assert verifies(mail.content.replace(b"Subject: ", b"Subject:   ").replace(b"List-Unsubscribe:", b"LIST-UNSUBSCRIBE:"))
    assert verifies(b"Received: from somewhere\r\n" + mail.content + b"\r\n\r\n")
    # What would lead the reader elsewhere is noticed, wherever it is put.
    assert not verifies(mail.content.replace(b"Hi Quillona", b"Hi Eve", 1))
    assert not verifies(mail.content.replace(b"reach.acme.example/u/", b"reach.evil.example/u/", 1))
    head, _, body = mail.content.partition(b"\r\n\r\n")
    for name in SIGNED:
        second = name.encode() + b": List-Unsubscribe=Elsewhere"
        assert not verifies(second + b"\r\n" + mail.content), f"a second {name} in front"
        assert not verifies(head + b"\r\n" + second + b"\r\n\r\n" + body), f"a second {name} behind"

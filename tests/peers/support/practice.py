"""A practice on a server, used through the public API alone, as its own software would."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf import field_mask_pb2

from . import contract
from .contract import directory, notify, preferences, types
from .processes import Sandbox, Server
from .waiting import until

ROLES = ("sender", "staff", "practice_admin", "directory", "auditor", "operator")

ACCOUNT_SID = "AC00000000000000000000000000000001"
AUTH_TOKEN = "12345678901234567890123456789012"
FROM_NUMBER = "+12025550199"
API_KEY = "SG.a-made-up-key.of-nobody-at-sendgrid"
SERVICE_SID = "MG00000000000000000000000000000001"

# The kinds that one sends to a patient; an announcement belongs to a broadcast, a custom one to the practice's own template.
KINDS = (
    "appointment_reminder",
    "appointment_confirmed",
    "appointment_cancelled",
    "payment_due",
    "payment_received",
    "payment_failed",
    "message_received",
    "document_shared",
    "system",
)

IN_APP, EMAIL, SMS = types.CHANNEL_IN_APP, types.CHANNEL_EMAIL, types.CHANNEL_SMS
PENDING, UNCONFIRMED = types.DELIVERY_STATE_PENDING, types.DELIVERY_STATE_UNCONFIRMED
SENT, DELIVERED, FAILED = types.DELIVERY_STATE_SENT, types.DELIVERY_STATE_DELIVERED, types.DELIVERY_STATE_FAILED
SKIPPED, CANCELLED = types.DELIVERY_STATE_SKIPPED, types.DELIVERY_STATE_CANCELLED


def link(path: str) -> Any:
    return notify.SecureLink(target_url=f"https://portal.acme.example{path}")


def payload(kind: str) -> dict[str, Any]:
    """The arm of `NotificationInput` for a kind, with every field filled in."""
    in_days = {"seconds": int(time.time()) + 2 * 86_400}
    visit = notify.AppointmentDetails(
        start_time=in_days,
        duration={"seconds": 45 * 60},
        provider_name="Dr. Ray",
        location_name="North Office",
        location_address="500 Elm Street, Suite 3",
        link=link("/visits/8842"),
    )
    payment = notify.PaymentDetails(
        amount=types.Money(currency_code="USD", units=1234, nanos=500_000_000),
        invoice_number="INV-2041",
        payment_time=in_days,
        method_hint="Visa 4242",
        link=link("/billing"),
    )
    if kind.startswith("appointment_"):
        return {kind: visit}
    if kind.startswith("payment_"):
        return {kind: payment}
    return {
        "message_received": {kind: notify.MessageReceivedDetails(sender_name="Dr. Ray", link=link("/messages"))},
        "document_shared": {
            kind: notify.DocumentDetails(
                action=notify.DocumentDetails.ACTION_SIGN,
                document_count=2,
                titles=["New patient form", "Privacy notice"],
                link=link("/documents"),
                due_time=in_days,
            )
        },
        "system": {
            kind: notify.SystemDetails(
                title="New sign-in", body="Somebody signed in to your portal account from a new device.", security=True
            )
        },
    }[kind]


def patient(patient_id: str = "pat", **fields: Any) -> Any:
    """A patient whose name is like no other word, so that it would be noticed in a log."""
    given = {
        "first_name": "Quillona",
        "last_name": "Featherstonehaugh",
        "email": "quillona@example.com",
        "mobile_phone": "+12025550142",
        "portal_enabled": True,
        **fields,
    }
    return directory.Patient(patient_id=patient_id, **given)


class Practice:
    """One practice and a token with which its software, its staff and its operator act."""

    def __init__(self, server: Server, practice_id: str = "acme", ttl: str = "1h") -> None:
        self.server = server
        self.id = practice_id
        self.token = server.token(*ROLES, practice=practice_id, ttl=ttl)
        self.channel = server.channel()
        self.metadata = (("authorization", f"Bearer {self.token}"),)
        self.notify = contract.notify_service_pb2_grpc.NotifyServiceStub(self.channel)
        self.directory = contract.directory_service_pb2_grpc.DirectoryServiceStub(self.channel)
        self.preferences = contract.preferences_service_pb2_grpc.PreferencesServiceStub(self.channel)

    def call(self, method: Any, request: Any, limit: float = 30) -> Any:
        """One call, which waits for the server if it is just coming back."""
        return method(request, timeout=limit, metadata=self.metadata, wait_for_ready=True)

    # Setting up.

    def furnish(
        self,
        patients: Iterable[Any],
        *,
        sandbox: Sandbox | None = None,
        sms: dict[str, Any] | None = None,
        email: dict[str, Any] | None = None,
    ) -> "Practice":
        """Makes the practice with its patients. Without other word it sends through the sandbox, over every channel."""
        if sandbox is not None:
            sms = sms or twilio()
            email = email or relay(*sandbox.smtp)
        practice = directory.Practice(
            legal_name="Acme Primary Care, PLLC",
            display_name="Acme Primary Care",
            phone="+12025550100",
            time_zone="America/New_York",
            portal_url="https://portal.acme.example",
            postal_address="12 Main Street, Springfield, VA 22150",
        )
        request = directory.PutPracticeRequest(practice_id=self.id, practice=practice)
        self.call(self.directory.PutPractice, request)
        self.put(patients)
        every = [IN_APP, EMAIL, SMS]
        settings = preferences.PracticeSettings(
            kind_channels=[preferences.KindChannels(kind=kind, channels=every) for kind in range(1, 10)],
            link_hosts=["portal.acme.example"],
        )
        paths = ["kind_channels", "link_hosts"]
        if sms is not None:
            settings.sms.CopyFrom(preferences.SmsSettings(**sms))
            self.server.private.add(settings.sms.auth_token)
            paths.append("sms")
        if email is not None:
            settings.email.CopyFrom(preferences.EmailSettings(**email))
            self.server.private.update({settings.email.smtp.password, settings.email.sendgrid.api_key})
            paths.append("email")
        self.update(settings, paths)
        return self

    def put(self, patients: Iterable[Any]) -> None:
        """Stores patients, and has the server's log watched for what is private about them."""
        patients = list(patients)
        for it in patients:
            self.server.private.update(
                {it.first_name, it.last_name, it.email, it.mobile_phone, it.mobile_phone.removeprefix("+1")}
            )
        self.server.private.update({"Dr. Ray", "INV-2041"})
        for start in range(0, len(patients), 500):
            page = patients[start : start + 500]
            self.call(
                self.directory.BatchPutPatients,
                directory.BatchPutPatientsRequest(practice_id=self.id, patients=page),
            )

    def update(self, settings: Any, paths: list[str]) -> Any:
        request = preferences.UpdatePracticeSettingsRequest(
            practice_id=self.id, settings=settings, update_mask=field_mask_pb2.FieldMask(paths=paths)
        )
        return self.call(self.preferences.UpdatePracticeSettings, request).settings

    def settings(self) -> Any:
        request = preferences.GetPracticeSettingsRequest(practice_id=self.id)
        return self.call(self.preferences.GetPracticeSettings, request).settings

    # Sending.

    def request(self, request_id: str, kind: str, patient_id: str = "pat", **fields: Any) -> Any:
        return notify.SendNotificationRequest(
            practice_id=self.id,
            request_id=request_id,
            notification=notify.NotificationInput(patient_id=patient_id, **payload(kind), **fields),
        )

    def send(self, request_id: str, kind: str, patient_id: str = "pat", **fields: Any) -> Any:
        """Sends, and yields the notification as it was accepted."""
        request = self.request(request_id, kind, patient_id, **fields)
        return self.call(self.notify.SendNotification, request).notification

    # Looking.

    def page(self, **fields: Any) -> Any:
        request = notify.ListDeliveriesRequest(practice_id=self.id, page_size=500, **fields)
        return self.call(self.notify.ListDeliveries, request)

    def deliveries(self, **fields: Any) -> dict[str, Any]:
        """All deliveries by id."""
        found: dict[str, Any] = {}
        token = ""
        while True:
            page = self.page(page_token=token, **fields)
            found.update((it.delivery_id, it) for it in page.deliveries)
            token = page.next_page_token
            if not token:
                return found

    def cursor(self) -> str:
        """Where to start a watch so that nothing after now is missed."""
        return self.page().watch_cursor

    def delivery(self, delivery_id: str) -> Any:
        return self.deliveries()[delivery_id]

    def wait(self, what: str, condition: Callable[[dict[str, Any]], Any], limit: float = 30) -> dict[str, Any]:
        """The deliveries, once they meet the condition."""

        def look() -> dict[str, Any] | None:
            found = self.deliveries()
            return found if condition(found) else None

        try:
            return until(what, limit, look, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{table(self.deliveries().values())}\n{self.server.tail(25)}") from None

    def wait_for(self, notification: Any, wanted: dict[int, int], limit: float = 30) -> dict[int, Any]:
        """The deliveries of a notification by channel, once each has reached the state wanted of its channel."""
        ids = {it.delivery_id for it in notification.deliveries}

        def there(found: dict[str, Any]) -> bool:
            return {found[it].channel: found[it].state for it in ids if it in found} == wanted

        names = {types.Channel.Name(it): types.DeliveryState.Name(state) for it, state in wanted.items()}
        found = self.wait(f"deliveries of {notification.notification_id} as {names}", there, limit)
        return {found[it].channel: found[it] for it in ids}


def table(deliveries: Iterable[Any]) -> str:
    """What became of deliveries, for whoever reads a failure."""
    rows = [
        f"{it.delivery_id} {types.Channel.Name(it.channel):<15} {types.DeliveryState.Name(it.state):<26} "
        f"revision {it.revision}, attempts {it.attempts} {it.failure.provider_code} "
        f"{types.FailureReason.Name(it.failure.reason) if it.HasField('failure') else ''}"
        for it in deliveries
    ]
    return "\n".join(rows[:40] + ([f"... {len(rows) - 40} more"] if len(rows) > 40 else []))


def twilio(**fields: Any) -> dict[str, Any]:
    """Settings of an account at Twilio, or at what stands in for it."""
    if "messaging_service_sid" not in fields:
        fields.setdefault("from_number", FROM_NUMBER)
    return {"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN, **fields}


def relay(host: str, port: int, **login: str) -> dict[str, Any]:
    """Settings of a relay with STARTTLS."""
    smtp = preferences.SmtpSettings(
        host=host, port=port, security=preferences.SmtpSettings.SECURITY_STARTTLS, **login
    )
    return {"smtp": smtp, "from_address": "no-reply@mail.acme.example"}


def sendgrid(webhook_public_key: str, api_key: str = API_KEY) -> dict[str, Any]:
    """Settings of an account at SendGrid, or at what stands in for it."""
    account = preferences.SendGridSettings(api_key=api_key, webhook_public_key=webhook_public_key)
    return {"sendgrid": account, "from_address": "no-reply@mail.acme.example"}


def is_unavailable(error: grpc.RpcError) -> bool:
    """Whether the contract says that the same call may simply be made again."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

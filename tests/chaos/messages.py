"""The messages of a run: who gets them, and by what a message is known once it has left. A text tells the minute of the visit
that it is about, so recipient and minute name the send without any id of the server's."""

import base64
import email
import re
from datetime import UTC, datetime, timedelta, timezone
from email import policy
from typing import Any

# In winter, when New York is five hours behind all the time.
_FIRST = datetime(2027, 1, 4, 13, 0, tzinfo=UTC)
_NEW_YORK = timezone(timedelta(hours=-5))
_MARK = re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [A-Z][a-z]+ \d+ at \d+:\d\d\s[AP]M")

# The sandbox takes no number that ends in four zeros for a magic one, and neither those with 5 in front.
_AREAS = ("201", "202", "203", "205", "206", "207", "208", "209", "210", "212", "213", "214", "215", "216", "217", "218")
PATIENTS = 200


def patient_id(number: int) -> str:
    return f"patient-{number}"


def phone(number: int) -> str:
    return f"+1{_AREAS[number % len(_AREAS)]}555{5000 + number}"


def mailbox(number: int) -> str:
    return f"patient{number}@example.com"


def start(minute: int) -> int:
    """The visit's time, in seconds since 1970."""
    return int((_FIRST + timedelta(minutes=minute)).timestamp())


def mark(minute: int) -> str:
    """What a text says of that time."""
    time = (_FIRST + timedelta(minutes=minute)).astimezone(_NEW_YORK)
    return f"{time:%A}, {time:%B} {time.day} at {time.hour % 12 or 12}:{time:%M} {time:%p}"


def mark_in(text: str) -> str:
    """The time that a text tells; empty when it tells none."""
    found = _MARK.search(re.sub(r"\s+", " ", text))
    return found.group() if found else ""


def mail_text(raw: dict[str, str]) -> str:
    """The plain part of a mail as the relay's journal has it."""
    octets = base64.b64decode(raw["base64"]) if "base64" in raw else raw["text"].encode()
    part: Any = email.message_from_bytes(octets, policy=policy.default).get_body(("plain",))
    return part.get_content()

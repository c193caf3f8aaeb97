"""Texts to a practice as Twilio posts them, signed by Twilio's own library: a thousand odd ones are all taken, each once, however
often they come; and of thousands that differ from them in one bit none is."""

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from support.contract import ROOT
from support.posting import Post, post_all
from support.practice import ACCOUNT_SID, AUTH_TOKEN, FROM_NUMBER, Practice, patient, twilio
from support.processes import Server
from support.talk import Talk

SEED = 20261129
TEXTS, REPEATS = 1_000, 100
# A hundred thousand more are judged without a server, by the tests of the crate: see the vectors below.
FORGERIES = {"sqlite": 8_000, "postgres": 2_000}

FORM = b"application/x-www-form-urlencoded; charset=UTF-8"
PATH = "/webhooks/twilio/acme/inbound"

# Where providers reach the server: itself, or a proxy before it, which may have a path of its own. The other spellings are those
# that Twilio may sign: it is not consistent about ports.
PLACES: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    (None, ()),
    ("https://texts.acme.example", ("https://texts.acme.example:443",)),
    ("https://texts.acme.example:8443", ("https://texts.acme.example",)),
    ("https://acme.example:444/sm%20s/heedwell/", ("https://acme.example/sm%20s/heedwell",)),
)
# As staff may have entered it at Twilio: what is added to the address is signed along.
QUERIES = ("", "", "?practice=acme", "?tag=a%20b+c&tag=%F0%9F%98%80%c3%a9&tag=", "?a=1;b=2&&c=/?@:")

FAMILY = "+12025550143"
PHONES = tuple(f"+1202555{number:04}" for number in range(200, 230))
STRANGERS = tuple(f"+1202555{number:04}" for number in range(300, 310))
# A short code, and a sender of letters.
OTHERS = ("12345", "ACME-LAB")

WORDS = (
    "thanks",
    "see you at 3",
    "Sí, mañana",
    "👍",
    "👨‍👩‍👧‍👦",
    "1+1=2",
    "a&b=c",
    "100 % %41 %zz",
    "\r\n",
    "\t",
    "שלום",
    "مرحبا",
    "e\u0301",
    "𝔘𝔫𝔦",
    "\x00\x1b[2J",
    "\u202e\ufeff\u2028",
    "<b>{{ first_name }}</b>",
    "+12025550142",
    "日本語",
    " ",
)


class Text:
    """A text as it is posted, with its signature."""

    def __init__(self, number: int, chance: random.Random, public: tuple[str, ...]) -> None:
        self.number = number
        self.sender = chance.choice((*PHONES, *STRANGERS, *OTHERS, FAMILY))
        self.said = _body(chance)
        sid = f"{chance.choice(('SM', 'MM'))}{number:032x}"
        fields = [
            ("ToCountry", "US"),
            ("SmsMessageSid", sid),
            ("NumMedia", "0"),
            ("SmsSid", sid),
            ("FromCity", chance.choice(("", "WASHINGTON", "SAN JOSÉ"))),
            ("SmsStatus", "received"),
            ("Body", self.said),
            ("To", FROM_NUMBER),
            ("MessageSid", sid),
            ("AccountSid", ACCOUNT_SID),
            ("From", self.sender),
            ("ApiVersion", "2010-04-01"),
        ]
        # Names that nobody here has heard of, given several times, once more the same, and without a value.
        for _ in range(chance.randrange(4)):
            fields.append((chance.choice(("Buttons", "ä+b", "")), chance.choice(("", "x", "x y", "👍+", "="))))
        self.target = PATH + chance.choice(QUERIES)
        self.base = chance.choice(public)
        self.body = urlencode(fields).encode()
        self.fields = MultiDict(fields)
        self.signature = self.signed(self.url)

    @property
    def url(self) -> str:
        return self.base + self.target

    def signed(self, url: str) -> str:
        return RequestValidator(AUTH_TOKEN).compute_signature(url, self.fields)

    def post(self, **changed: bytes) -> Post:
        parts = {"target": self.target.encode(), "signature": self.signature.encode(), "body": self.body, **changed}
        headers = ((b"Content-Type", FORM), (b"X-Twilio-Signature", parts["signature"]))
        return Post(parts["target"], headers, parts["body"])

    def forged(self, chance: random.Random) -> Post:
        """It with one bit turned: of its signature, of what it says, or of the address that it was signed for."""
        part = chance.choice(("signature", "body", "url"))
        if part == "signature":
            return self.post(signature=turned(self.signature.encode(), chance))
        if part == "url":
            return self._elsewhere(chance)
        while True:
            body = turned(self.body, chance)
            # `%2b` is `%2B`, to Twilio as well.
            if pairs(body) != pairs(self.body):
                return self.post(body=body)

    def _elsewhere(self, chance: random.Random) -> Post:
        url = turned(self.url.encode(), chance)
        base, target = url[: len(self.base)], url[len(self.base) :]
        if base == self.base.encode():
            return self.post(target=target)
        # Whoever is at another address signs for it; what comes here is the same.
        return self.post(signature=self.signed(url.decode("latin-1")).encode())


def _body(chance: random.Random) -> str:
    words = [chance.choice(WORDS) for _ in range(chance.randrange(12))]
    if chance.random() < 0.02:
        # Longer than the ten parts that a phone puts together.
        words *= 100
    return chance.choice((" ", "", "+")).join(words)


def turned(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(8 * len(data))
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def pairs(body: bytes) -> set[tuple[bytes, ...]]:
    """What a form says."""
    named = (pair.replace(b"+", b" ").partition(b"=") for pair in body.split(b"&") if pair)
    return {(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in named}


@pytest.fixture
def practice(server: Callable[..., Server], database: str | None) -> Practice:
    practice = Practice(server(database))
    patients = [patient(f"pat-{phone[-3:]}", mobile_phone=phone) for phone in PHONES]
    patients += [patient(f"child-{number}", mobile_phone=FAMILY) for number in range(3)]
    return practice.furnish(patients, sms=twilio())


def take_at_every_place(practice: Practice, chance: random.Random) -> Iterator[list[Text]]:
    """The texts of each place, while the server is there."""
    server = practice.server
    each = TEXTS // len(PLACES)
    for turn, (public, spellings) in enumerate(PLACES):
        if public is not None:
            server.stop()
            server.env["HEEDWELL_PUBLIC_URL"] = public
            server.restart()
        bases = ((public or server.url).rstrip("/"), *spellings)
        yield [Text(number, chance, bases) for number in range(turn * each, (turn + 1) * each)]


def statuses(practice: Practice, posts: Iterable[Post]) -> Counter[int]:
    return Counter(post_all(practice.server.http_address, posts))


def kept(text: str) -> str:
    """What is kept of a text: line ends are one kind, marks that embed or isolate a direction of writing are left out, and U+FFFD
    stands in the place of control characters and of overrides of that direction."""
    text = re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text)
    text = re.sub("[\u202a-\u202c\u2066-\u2069]", "", text)
    return "".join("\ufffd" if it in "\u202d\u202e" or (unicodedata.category(it) == "Cc" and it not in "\n\t") else it for it in text)


def expected(texts: list[Text]) -> Counter[tuple[str, str]]:
    """In whose conversation each is to be."""
    home = {phone: f"pat-{phone[-3:]}" for phone in PHONES}
    return Counter((home.get(text.sender, text.sender), kept(text.said)) for text in texts)


def stored(talk: Talk) -> Counter[tuple[str, str]]:
    return Counter((it.patient_id or it.phone_hint, message.body) for it, messages in talk.all() for message in messages)


def test_what_twilio_signs_is_taken_once_and_one_turned_bit_is_refused(
    practice: Practice, request: pytest.FixtureRequest
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    talk = Talk(practice)
    taken: list[Text] = []
    kind = request.node.callspec.params["database"]
    for texts in take_at_every_place(practice, chance):
        assert statuses(practice, (text.post() for text in texts)) == {200: len(texts)}
        taken += texts
        assert stored(talk) == expected(taken)
        before = talk.all()
        # All once more, and one of them very often.
        again = [*texts, *[chance.choice(texts)] * REPEATS]
        assert statuses(practice, (text.post() for text in again)) == {200: len(again)}
        assert talk.all() == before
        # `%2b` is what `%2B` is: Twilio's library says so too, and here it is a repeat like any other.
        forgeries = FORGERIES[kind] // len(PLACES)
        answers = statuses(practice, (chance.choice(texts).forged(chance) for _ in range(forgeries)))
        print(kind, texts[0].base, answers)
        # Those that are no HTTP, that lead nowhere, and the others.
        assert set(answers) <= {400, 403, 404} and answers[403] > forgeries // 2, answers
        assert talk.all() == before
    assert len(taken) == TEXTS


def test_the_vectors_of_the_crate_are_what_twilios_library_signs() -> None:
    vectors = json.loads((ROOT / "tests" / "vectors" / "twilio_texts.json").read_text())
    validator = RequestValidator(vectors["token"])
    for text in vectors["texts"]:
        fields = MultiDict(parse_qsl(text["body"], keep_blank_values=True))
        assert validator.compute_signature(text["url"], fields) == text["signature"], text["url"]
    assert len(vectors["texts"]) == 60


def test_every_forgery_is_one_to_twilios_library_too() -> None:
    """Else nothing would be proven by its being refused."""
    chance = random.Random(SEED)
    validator = RequestValidator(AUTH_TOKEN)
    texts = [Text(number, chance, ("https://texts.acme.example:8443",)) for number in range(100)]
    for text in texts:
        assert validator.validate(text.url, text.fields, text.signature), text.url
        assert {tuple(it.encode() for it in pair) for pair in text.fields.items()} == pairs(text.body)
    for _ in range(2_000):
        text = chance.choice(texts)
        forged = text.forged(chance)
        read = [tuple(it.decode(errors="replace") for it in pair) for pair in pairs(forged.body)]
        signature = dict(forged.headers)[b"X-Twilio-Signature"].decode("latin-1")
        url = text.base + forged.target.decode("latin-1")
        try:
            valid = validator.validate(url, MultiDict(read), signature)
        except ValueError:
            # The address is none any more.
            continue
        assert not valid, (forged, text)

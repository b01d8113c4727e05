"""The spam gate: what rspamd says of one mail, asked over HTTP (POST /checkv2) and put into one of our few words.

It only asks: what becomes of the mail is decided by whoever asked. An rspamd that is down, slow or talks rubbish costs
no mail: the verdict is then `unknown`, which means stored and flagged, and never an exception. Of rspamd's answer only
numbers, names of symbols and words that we know are kept, for all else in it may quote the mail.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from io import BytesIO
from ipaddress import ip_address

import msgspec
import structlog
from aiohttp import (
    ClientError,
    ClientOSError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)

from ingester.settings import Spam

MAX_ANSWER = 8 << 20
"""Octets of an answer. A few thousand as a rule, but rspamd names up to 10,240 links and addresses of a mail."""
MAX_SYMBOLS_TEXT = 128 << 10
"""Octets of the symbols in it: reading more would hold the loop, so they are left out."""
MAX_SYMBOLS = 64
MAX_RECIPIENTS = 50
"""Recipients that rspamd is told: its HTTP parser takes 80 KiB of header."""
MAX_TEXT = 512
"""Characters of one header value; RFC 5321, 4.5.3.1 has nothing longer."""
_PIECE = 64 << 10
_SYMBOL = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")

Headers = list[tuple[str, str]]

_log = structlog.get_logger(__name__)


class SpamAction(StrEnum):
    """What to do with the mail. `unknown` is flagged like `flag`: nobody has said anything against it."""

    ACCEPT = "accept"
    FLAG = "flag"
    DEFER = "defer"
    REFUSE = "refuse"
    UNKNOWN = "unknown"


_ACTIONS = {
    "no action": SpamAction.ACCEPT,
    # "greylist" alone is a score: rspamd's own greylisting says "soft reject", and remembers. We have no memory of
    # whom we have sent away, so a deferral would repeat until the sender gives up.
    "greylist": SpamAction.FLAG,
    "add header": SpamAction.FLAG,
    "rewrite subject": SpamAction.FLAG,
    "quarantine": SpamAction.FLAG,
    "discard": SpamAction.FLAG,  # law 3: nothing vanishes
    "soft reject": SpamAction.DEFER,
    "reject": SpamAction.REFUSE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A rule of rspamd that applied, and what it added to the score."""

    name: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpamVerdict:
    """What rspamd thinks of a mail. `note` is rspamd's own word, or ours for why there is none."""

    action: SpamAction
    score: float | None = None
    required: float | None = None
    """The score at which rspamd rejects."""
    symbols: tuple[Symbol, ...] = ()
    """The weightiest first, at most MAX_SYMBOLS."""
    note: str = ""


class _Symbol(msgspec.Struct):
    score: float = 0.0


class _Answer(msgspec.Struct):
    """What we read of rspamd's answer (rspamd.com, protocol); the rest is skipped. JSON has no infinite numbers."""

    action: str
    score: float
    required_score: float | None = None
    symbols: msgspec.Raw = msgspec.Raw(b"{}")


class _NoVerdict(Exception):
    """rspamd answered, but not with a verdict. The text is one of ours."""


_ANSWERS = msgspec.json.Decoder(_Answer)
_SYMBOLS = msgspec.json.Decoder(dict[str, _Symbol])


class SpamGate:
    """Asks one rspamd, over few connections that are used again. Made at start; closed at the end, never again open."""

    def __init__(self, settings: Spam) -> None:
        self._settings = settings
        self._session: ClientSession | None = None
        self._questions: set[asyncio.Task[SpamVerdict]] = set()
        self._closed = False
        self._lasting_note = ""

    @property
    def on(self) -> bool:
        """Whether there is an rspamd to ask."""
        return bool(self._settings.url)

    async def judge(
        self, raw: bytes, *, ip: str, helo: str | None, mail_from: str, recipients: Sequence[str], queue_id: str = ""
    ) -> SpamVerdict:
        """Ask about one mail and the facts of its envelope. Takes at most `settings.seconds`; never raises.

        `mail_from` is "" for the null sender. Of a mail larger than `settings.max_bytes` rspamd sees the beginning: its
        checks of signatures then fail without the sender's fault, so the mail is flagged where it would be turned away.
        """
        if not self.on:
            return SpamVerdict(action=SpamAction.ACCEPT, note="off")
        if self._closed:
            return _unknown("closed")
        headers = request_headers(ip=ip, helo=helo, mail_from=mail_from, recipients=recipients, queue_id=queue_id)
        seen = raw[: self._settings.max_bytes]
        verdict = await self._in_time(seen, headers)
        self._tell(verdict)
        return _of_a_beginning(verdict) if len(seen) < len(raw) else verdict

    async def close(self) -> None:
        """Close the connections. Questions on their way get `unknown`, and so does who asks later."""
        self._closed = True
        for question in self._questions:
            question.cancel()
        await asyncio.gather(*self._questions, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _in_time(self, raw: bytes, headers: Headers) -> SpamVerdict:
        """Ask in a task of its own: neither the deadline nor `close` is then an exception for the one who waits."""
        question = asyncio.create_task(self._verdict(raw, headers))
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)
        try:
            await asyncio.wait((question,), timeout=self._settings.seconds)
        finally:
            question.cancel()
        if question.done() and not question.cancelled():
            return question.result()
        return _unknown("closed" if self._closed else "timeout")

    async def _verdict(self, raw: bytes, headers: Headers) -> SpamVerdict:
        try:
            return read_answer(await self._ask(raw, headers))
        except _NoVerdict as fault:
            return _unknown(str(fault))
        except (ClientError, OSError):
            return _unknown("unreachable")
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not cost a mail)
            _log.warning("spam.surprise", exc_info=error)
            return _unknown("surprise")

    async def _ask(self, raw: bytes, headers: Headers) -> bytes:
        """Ask, and once more where the connection is gone: it was an old one that rspamd had just given up."""
        if self._session is None:
            self._session = self._connected()
        try:
            return await self._exchange(self._session, raw, headers)
        except (ServerDisconnectedError, ClientOSError):
            return await self._exchange(self._session, raw, headers)

    async def _exchange(self, session: ClientSession, raw: bytes, headers: Headers) -> bytes:
        # BytesIO shares the bytes, and is sent in pieces: one long write would hold the loop.
        body = BytesIO(raw)
        async with session.post(self._settings.url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise _NoVerdict(f"http {response.status}")
            answer = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise _NoVerdict("answer too large")
            return bytes(answer)

    def _connected(self) -> ClientSession:
        """The client, kept from what it could do on its own: unpack an answer, remember cookies."""
        return ClientSession(
            connector=TCPConnector(limit=self._settings.in_flight),
            timeout=ClientTimeout(total=None),  # ours is the only clock, and it counts the wait for a place too
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )

    def _tell(self, verdict: SpamVerdict) -> None:
        """Log that verdicts stop or come again; once, not with each mail."""
        if self._closed:
            return
        note = verdict.note if verdict.action is SpamAction.UNKNOWN else ""
        if note and not self._lasting_note:
            _log.warning("spam.no_verdict", reason=note)
        elif self._lasting_note and not note:
            _log.warning("spam.verdicts_again")
        self._lasting_note = note


def request_headers(*, ip: str, helo: str | None, mail_from: str, recipients: Sequence[str], queue_id: str) -> Headers:
    """The envelope as rspamd's protocol has it. Strangers' text stays within its value."""
    headers = [("Accept-Encoding", "identity"), ("Content-Type", "application/octet-stream")]
    address = _address(ip)
    if address:
        headers.append(("IP", address))
    if helo:
        headers.append(("Helo", _value(helo)))
    headers.append(("From", f"<{_value(mail_from)}>"))
    headers += [("Rcpt", f"<{_value(recipient)}>") for recipient in recipients[:MAX_RECIPIENTS]]
    if queue_id:
        headers.append(("Queue-Id", _value(queue_id)))
    return headers


def _address(ip: str) -> str | None:
    """An IP address as rspamd reads it: without zone, IPv4 as such. None for a peer that has none."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _value(text: str) -> str:
    """Text for a header value: one line without control characters (RFC 9110, 5.5), bounded, always UTF-8."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_TEXT])


def read_answer(answer: bytes) -> SpamVerdict:
    """rspamd's answer as a verdict. Raises _NoVerdict for what is none."""
    try:
        read = _ANSWERS.decode(answer)
        symbols = _SYMBOLS.decode(read.symbols) if len(bytes(read.symbols)) <= MAX_SYMBOLS_TEXT else {}
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _NoVerdict("answer not understood") from None
    action = _ACTIONS.get(read.action)
    if action is None:
        raise _NoVerdict("action not known")
    return SpamVerdict(
        action=action,
        score=read.score,
        required=read.required_score,
        symbols=_weightiest(symbols),
        note=read.action,
    )


def _weightiest(symbols: dict[str, _Symbol]) -> tuple[Symbol, ...]:
    """The symbols that say most, without names that no rule of rspamd has."""
    known = [Symbol(name=name, score=one.score) for name, one in symbols.items() if _SYMBOL.fullmatch(name)]
    return tuple(sorted(known, key=lambda one: (-abs(one.score), one.name))[:MAX_SYMBOLS])


def _of_a_beginning(verdict: SpamVerdict) -> SpamVerdict:
    """A verdict on the first bytes of a mail: it turns nothing away."""
    if verdict.action is SpamAction.UNKNOWN:
        return verdict
    gentle = SpamAction.FLAG if verdict.action in (SpamAction.DEFER, SpamAction.REFUSE) else verdict.action
    return replace(verdict, action=gentle, note=f"{verdict.note}, of the first bytes")


def _unknown(note: str) -> SpamVerdict:
    return SpamVerdict(action=SpamAction.UNKNOWN, note=note)

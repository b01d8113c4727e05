"""Nothing of a mail is told (design page, law 11): canaries in every field of it, of what is said around it, and in the
secrets, are in no log line, metric, span or error reply of the real daemon, whatever becomes of the mail.

A search that finds nothing proves nothing: each test asserts that what it is about has happened, and that the words
would be found (`log.addresses` puts them into the log).
"""

import base64
import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from typing import Any
from urllib.error import HTTPError
from uuid import UUID

import msgspec
import pytest

from tests.canaries import Canaries, exchange, mail, request, session
from tests.collector import Collector, collecting
from tests.daemon import ROOT, Daemon, Town, clean_environment, command, serving
from tests.e2e.test_faults import frozen
from tests.e2e.test_ses import serving as ses_serving
from tests.inbound import PATH
from tests.ports import free_port
from tests.postgres import Cluster
from tests.sns import FakeSns, body_of, headers_of
from tests.transport.ses.house import bounce, complaint, in_s3, received

pytestmark = pytest.mark.thorough

SES = "/events/inbound/ses-s3"


@dataclass(slots=True)
class Stage:
    """A daemon with all its doors, and everything that it has told anybody."""

    c: Canaries
    daemon: Daemon
    http: int
    lmtp: int
    metrics: int
    collector: Collector
    secrets: dict[str, str]
    replies: dict[str, bytes] = field(default_factory=dict)

    def smtp(self, name: str, wire: bytes, *, client: str = "203.0.113.5") -> bytes:
        """Say this by SMTP, through a proxy that tells the client. The replies are kept under this name."""
        proxied = f"PROXY TCP4 {client} 127.0.0.1 1025 25\r\n".encode() + wire
        return self._keep(name, exchange(self.daemon.port, proxied))

    def lhlo(self, name: str, wire: bytes) -> bytes:
        return self._keep(name, exchange(self.lmtp, wire))

    def web(self, name: str, wire: bytes) -> bytes:
        return self._keep(name, exchange(self.http, wire, half_close=False))

    def post(self, name: str, path: str, body: bytes, **headers: str) -> bytes:
        return self.web(name, request(path, body, Authorization=f"Bearer {self.secrets['inbound']}", **headers))

    def scrape(self) -> None:
        """What the operators' listener and the public one tell."""
        for port, paths in ((self.metrics, ("/metrics", "/healthz", "/readyz")), (self.http, ("/healthz", "/readyz"))):
            for path in paths:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                        self._keep(f"{port}{path}", reply.read())
                except HTTPError as error:
                    self._keep(f"{port}{path}", error.read())

    def _keep(self, name: str, said: bytes) -> bytes:
        self.replies[name] = self.replies.get(name, b"") + said
        return said

    @property
    def log(self) -> bytes:
        return "\n".join(self.daemon.raw).encode()

    def leaks(self) -> dict[str, set[str]]:
        """Where which canaries stand that should not."""
        told = {"log": self.log, "spans": b"\n".join(self.collector.bodies), **self.replies}
        return {where: found for where, said in told.items() if (found := self.c.found(said))}


@contextmanager
def staged(c: Canaries, url: str, **more: str) -> Iterator[Stage]:
    """A daemon at production's defaults, with canaries for secrets."""
    http, lmtp, metrics = free_port(), free_port(), free_port()
    secrets = {name: f"{c(f'secret: {name}')}-of-the-settings-long" for name in ("token", "inbound", "s3", "mailgun")}
    with collecting() as collector:
        settings = {
            "INGESTER_ENV": "production",
            "INGESTER_LOG__FORMAT": "json",
            "INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}",
            "INGESTER_LMTP__LISTEN": f"127.0.0.1:{lmtp}",
            "INGESTER_LMTP__TRUSTED_NETWORKS": "127.0.0.0/8",
            "INGESTER_METRICS__LISTEN": f"127.0.0.1:{metrics}",
            "INGESTER_INBOUND_TOKEN": secrets["inbound"],
            "INGESTER_REPLY_TOKEN_SECRETS": secrets["token"],
            "INGESTER_S3__SECRET_ACCESS_KEY": secrets["s3"],
            "INGESTER_PROVIDERS__MAILGUN_SIGNING_KEY": secrets["mailgun"],
            "INGESTER_TRACES__ENDPOINT": collector.url,
            "INGESTER_TRACES__HEADERS": f"authorization={c('secret: traces')}",
            "INGESTER_SMTP__PROXY_NETWORKS": "127.0.0.0/8",
            "INGESTER_MAX_MESSAGE_BYTES": "200000",
            "INGESTER_SMTP__UNKNOWN_RECIPIENTS_PER_HOUR": "10",
            "INGESTER_SMTP__MAX_RECIPIENTS": "100",
            "INGESTER_STORE__COMMIT_SECONDS": "3",
            "INGESTER_SES__TOPICS": "arn:aws:sns:eu-west-1:123456789012:inbound",
        }
        with serving(url, settings=settings | more, wait=False) as daemon:
            daemon.wait_text("serving")
            yield Stage(c, daemon, http, lmtp, metrics, collector, secrets)


def wanted(town: Town) -> None:
    """Mailboxes with every gate."""
    for name, words in {
        "thread": ["--thread-only"],
        "picky": ["--auth-policy", "enforce"],
        "closed": [],
        "blocked": [],
        "full": [],
    }.items():
        command(town.url, "mailbox", "add", f"{name}@acme.test", *words)
    town.ask("UPDATE mailboxes SET require_alignment = true WHERE local_part = 'picky'")
    town.ask("UPDATE mailboxes SET status = 'suspended' WHERE local_part = 'closed'")
    town.ask("UPDATE mailboxes SET sender_mode = 'allowlist' WHERE local_part = 'blocked'")
    command(town.url, "quota", "set", "--mailbox", "full@acme.test", "--mails", "0")
    command(town.url, "domain", "add", "pending.test", "--tenant", "acme")
    command(town.url, "mailbox", "add", "support@pending.test")


# -- what a mail may meet with -------------------------------------------------------------------------------------


def by_smtp(
    stage: Stage, name: str, to: list[str], content: bytes | None = None, *, client: str = "203.0.113.5"
) -> bytes:
    """A mail with canaries all over, and what is said around it."""
    c = stage.c
    hello = f"EHLO {c(f'{name}: helo')}.test"
    mail_from = f"{c(f'{name}: mail from')}@{c(f'{name}: mail from domain')}.test"
    return stage.smtp(name, session(hello, mail_from, to, content or mail(c, name, to=to[0])), client=client)


def gates(stage: Stage, reply_address: str) -> None:
    """Mails that are taken, and mails that each gate refuses."""
    c = stage.c
    assert b"stored as" in by_smtp(stage, "plain", ["support@acme.test"])
    assert b"stored as" in by_smtp(stage, "tagged", [f"support+{c('tag')}@acme.test"])
    assert b"stored as" in by_smtp(stage, "again", ["support@acme.test"], mail(c, "plain"))
    assert b"stored as" in by_smtp(stage, "true token", [reply_address])
    token = reply_address.partition("@")[0].removeprefix("reply+")
    forged = token[:-6] + ("aaaaaa" if not token.endswith("aaaaaa") else "bbbbbb")
    assert b"stored as" in by_smtp(stage, "forged token", [f"reply+{forged}@acme.test"])
    c.adopt("reply token", token)
    c.adopt("reply token that is forged", forged)
    codes = {
        "thread": b"550 5.7.1",
        "picky": b"550 5.7.26",
        "closed": b"450 4.2.1",
        "blocked": b"550 5.7.1",
        "full": b"452 4.2.2",
    }
    for name, code in codes.items():
        assert code in by_smtp(stage, name, [f"{name}@acme.test"]), name
    assert b"450 4.7.1" in by_smtp(stage, "pending", ["support@pending.test"])
    assert b"550 5.1.1" in by_smtp(stage, "nobody", [f"{c('nobody')}@acme.test"])
    assert b"550 5.7.1" in by_smtp(stage, "relay", [f"{c('relay')}@{c('relay domain')}.test"])
    loop = b"".join(b"Received: from %s.test by x; now\r\n" % c("loop received").encode() for _ in range(101))
    assert b"554 5.4.6" in by_smtp(stage, "loop", ["support@acme.test"], loop + mail(c, "loop"))
    large = mail(c, "large") + (c("large body").encode() + b"\r\n") * 20_000
    assert b"552 5.3.4" in by_smtp(stage, "large", ["support@acme.test"], large)
    assert b"550 5.6.0" in by_smtp(
        stage, "smuggled", ["support@acme.test"], b"x\n.\nMAIL FROM:<y@z>\r\n" + mail(c, "smug")
    )
    crowd = [f"support+{c('crowd')}{number}@acme.test" for number in range(101)]
    assert b"452 4.5.3" in by_smtp(stage, "crowd", crowd)
    guesses = [f"{c('guess')}{number}@acme.test" for number in range(30)]
    assert b"451 4.7.1" in by_smtp(stage, "guesses", guesses, client="203.0.113.6")


def misuse(stage: Stage) -> None:
    """What no client says."""
    c = stage.c
    lines = [
        f"EHLO {c('odd helo')}.test",
        c("unknown command"),
        f"VRFY {c('vrfy')}@acme.test",
        f"EXPN {c('expn')}",
        f"AUTH PLAIN {c('auth')}",
        f"HELP {c('help')}",
        f"NOOP {c('noop')}",
        f"MAIL FROM:<{c('bad path')}",
        f"MAIL FROM:<x@y.test> {c('parameter')}={c('value')}",
        f"MAIL FROM:<x@y.test> SIZE={'9' * 12}",
        "MAIL FROM:<x@y.test>",
        f"MAIL FROM:<{c('nested')}@y.test>",
        f"RCPT TO:<{c('bad recipient')}",
        f"RCPT TO:<@{c('route')}.test:{c('routed')}@acme.test>",
        f'RCPT TO:<"{c("quoted")} x"@acme.test>',
        f"RCPT TO:<x@[{c('literal')}]>",
        f"DATA {c('data argument')}",
        f"RSET {c('rset')}",
        f"STARTTLS {c('starttls')}",
        f"XCLIENT NAME={c('xclient')}.test",
        f"BDAT {c('bdat')}",
        f"MAIL FROM:<{'x' * 3000}{c('long line')}@y.test>",
    ]
    stage.smtp("misuse", "".join(f"{line}\r\n" for line in lines).encode())
    exchanged = exchange(stage.daemon.port, f"PROXY TCP4 {c('proxied')} 127.0.0.1 1 25\r\nEHLO a\r\n".encode())
    assert exchanged == b"", "a header that is none"
    stage.smtp("not smtp", f"GET /{c('http to smtp')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    stage.smtp("binary", b"\x16\x03\x01" + c("tls to smtp").encode() * 300)
    stage.smtp("stray", f"EHLO a\r\nMAIL FROM:<{c('stray')}\0@x>\r\n".encode())
    stage.smtp(
        "hung up", f"EHLO a\r\nMAIL FROM:<{c('hung up')}@x.test>\r\nRCPT TO:<support@acme.test>\r\nDATA\r\n".encode()
    )
    for _ in range(2):
        stage.smtp("errors", f"{c('many errors')}\r\n".encode() * 30)


def relays(stage: Stage) -> None:
    """LMTP, where a relay of ours tells of a client."""
    c = stage.c
    told = [
        f"XCLIENT NAME={c('xclient name')}.test ADDR=203.0.113.7 HELO={c('xclient helo')}.test",
        "LHLO relay.test",
        f"XFORWARD NAME={c('xforward name')}.test ADDR=2001:db8::7 HELO={c('xforward helo')}.test"
        f" IDENT={c('xforward ident')} SOURCE=REMOTE",
    ]
    to = ["support@acme.test", f"{c('lmtp nobody')}@acme.test", "thread@acme.test"]
    wire = session(f"LHLO {c('lhlo')}.test", f"{c('lmtp from')}@x.test", to, mail(c, "lmtp"), *told)
    assert b"stored as" in stage.lhlo("lmtp", wire)
    bad = f"XFORWARD ADDR={c('bad address')}\r\nXFORWARD {c('bad attribute')}=1\r\nXCLIENT ADDR={c('bad xclient')}\r\n"
    stage.lhlo("lmtp misuse", f"LHLO x\r\n{bad}EHLO {c('ehlo to lmtp')}\r\n".encode())


def by_http(stage: Stage) -> None:
    """Every form of a body, taken and refused."""
    c = stage.c
    named = {
        "X_Ingester_Recipient": "support@acme.test",
        "X_Ingester_Event_Id": c("event id"),
        "X_Ingester_Mail_From": f"{c('http mail from')}@x.test",
        "X_Ingester_Helo": f"{c('http helo')}.test",
        "X_Ingester_Client_Ip": "203.0.113.9",
        "X_Ingester_Provider": c("provider"),
    }
    raw = {"Content_Type": "message/rfc822"}
    assert b'"ok":true' in stage.post("raw", PATH, mail(c, "raw"), **raw, **named)
    assert b"event_conflict" in stage.post("conflict", PATH, mail(c, "conflict"), **raw, **named)
    assert b"oversized" in stage.post("too large", PATH, mail(c, "too large") * 100, **raw, **named)
    for to in (f"x@{c('domain of nobody')}.test", f"{c('http nobody')}@acme.test", "thread@acme.test"):
        assert b'"ok":false' in stage.post("to nobody", PATH, mail(c, f"raw to {to}", to=to), **raw)
        assert b'"ok":false' in stage.post("for nobody", f"{PATH}?recipient={to}", mail(c, f"raw for {to}"), **raw)
    stage.post("query", f"{PATH}?unknown={c('query value')}&provider={c('query provider')}!", b"x", **raw)
    given = {
        "event_id": c("json event id"),
        "provider": c("json provider"),
        "message_id": c("json message id"),
        "recipients": ["support@acme.test"],
        "raw_mime_base64": base64.b64encode(mail(c, "json")).decode(),
        "metadata": {c("metadata key"): [c("metadata value"), {"deep": c("metadata deep")}]},
        "envelope": {
            "mail_from": f"{c('json mail from')}@x.test",
            "helo": f"{c('json helo')}.test",
            "client_ip": "203.0.113.10",
        },
    }
    as_json = {"Content_Type": "application/json"}
    assert b'"ok":true' in stage.post("json", PATH, msgspec.json.encode(given), **as_json)
    wrong: dict[str, object] = {
        "raw_mime_base64": c("no base64") + "!",
        "raw_mime": c("both"),
        "recipients": [c("no address"), 7],
        "event_id": [c("no event id")],
        "envelope": {"client_ip": c("no ip"), "mail_from": c("no sender")},
        "raw_mime_url": f"https://{c('url host')}.test/{c('url path')}",
        "provider": c("provider with a space") + " x",
        "metadata": c("no metadata"),
    }
    for key, value in wrong.items():
        body = given | {"event_id": f"{c('json event id')}-{key}", key: value}
        assert b'"ok":false' in stage.post(f"json {key}", PATH, msgspec.json.encode(body), **as_json), key
    stage.post(
        "json unknown field", PATH, msgspec.json.encode(given | {"event_id": "x", "unknown": c("unknown")}), **as_json
    )
    stage.post("no json", PATH, f'{{"event_id": "{c("cut json")}'.encode(), **as_json)
    stage.post("no such type", PATH, c("body of no type").encode(), Content_Type=f"application/{c('content type')}")
    stage.post("compressed", PATH, c("compressed").encode(), **raw, Content_Encoding=c("content encoding"))
    form(stage)
    web_misuse(stage)


def form(stage: Stage) -> None:
    """Forms as of a provider, unsigned, signed falsely, torn."""
    c = stage.c
    edge = c("form boundary")
    fields = {
        "body-mime": mail(c, "form").decode(),
        "recipient": "support@acme.test",
        "sender": f"{c('form sender')}@x.test",
        "from": c("form from"),
        "subject": c("form subject"),
        "token": c("form token"),
        "timestamp": "1790000000",
        "signature": c("form signature"),
        c("form field"): c("form value"),
    }
    body = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    whole, kind = f"{body}--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"
    assert b'"ok":true' in stage.post("form", PATH, whole, Content_Type=kind)
    assert b" 401 " in stage.web("form, falsely signed", request(PATH, whole, Content_Type=kind))
    stage.post("torn form", PATH, whole[:700], Content_Type=kind)
    stage.post("form of nobody", f"{PATH}?provider=postmark", whole, Content_Type=kind)
    postmark = {
        "RawEmail": mail(c, "postmark").decode(),
        "MessageID": c("postmark id"),
        "OriginalRecipient": c("original"),
    }
    stage.post("postmark", f"{PATH}?provider=postmark", msgspec.json.encode(postmark), Content_Type="application/json")


def web_misuse(stage: Stage) -> None:
    """Wrong tokens, paths and methods, requests that are none; SNS messages that nobody has signed."""
    c = stage.c
    login = f"{c('basic user')}:{c('basic password')}"
    for name, value in {
        "bearer": f"Bearer {c('wrong bearer')}",
        "basic": f"Basic {base64.b64encode(login.encode()).decode()}",
        "scheme": f"{c('scheme')} x",
    }.items():
        said = stage.web(name, request(PATH, mail(c, name), Content_Type="message/rfc822", Authorization=value))
        assert b" 401 " in said
    stage.web(
        "api key", request(f"/v1/messages/{c('path id')}/sent", b"{}", Authorization=f"Bearer igk_{c('api key')}")
    )
    stage.web(
        "path", request(f"/{c('path')}?{c('path query')}=1", method="GET", Cookie=c("cookie"), Referer=c("referer"))
    )
    stage.web("method", request(PATH, method=c("method").upper()))
    stage.web("no request", f"{c('no request')}\r\n\r\n".encode())
    stage.web("bad header", f"GET / HTTP/1.1\r\n{c('bad header')}\0: x\r\n\r\n".encode())
    stage.web("version", f"GET /{c('version path')} HTTP/7.7\r\n\r\n".encode())
    stage.web("bad length", f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {c('bad length')}\r\n\r\n".encode())
    envelope = {
        "Type": "Notification",
        "MessageId": c("sns message id"),
        "TopicArn": f"arn:aws:sns:eu-west-1:123456789012:{c('sns topic')}",
        "Subject": c("sns subject"),
        "Message": json.dumps({"mail": {"source": c("sns source")}}),
        "Timestamp": c("sns timestamp"),
        "SignatureVersion": "1",
        "Signature": c("sns signature"),
        "SigningCertURL": f"https://{c('sns cert host')}.test/{c('sns cert path')}.pem",
        "Token": c("sns token"),
        "SubscribeURL": f"https://{c('sns subscribe')}.test/",
    }
    ours = "arn:aws:sns:eu-west-1:123456789012:inbound"
    for changed in ({}, {"TopicArn": ours}, {"TopicArn": ours, "Timestamp": "2026-11-21T08:00:00.000Z"}, {"Type": "X"}):
        body = json.dumps(envelope | changed).encode()
        headers = {"x_amz_sns_message_type": "Notification", "Content_Type": "text/plain"}
        for path in (SES, "/events/ses"):
            stage.web("sns", request(path, body, **headers))
    stage.web("sns, no json", request(SES, c("sns no json").encode(), x_amz_sns_message_type=c("sns kind")))


def test_no_canary_leaves_a_daemon_at_production_defaults(own_town: Town, own_server: Cluster) -> None:
    """Every door, every gate, every misuse; then Postgres hangs, and is gone."""
    c = Canaries()
    wanted(own_town)
    with staged(c, own_town.url) as stage:
        words = ["outbound", "register", "support@acme.test", "--to", "ada@customer.test", "--json"]
        ours = msgspec.json.decode(command(own_town.url, *words, INGESTER_REPLY_TOKEN_SECRETS=stage.secrets["token"]))
        gates(stage, ours["reply_address"])
        misuse(stage)
        relays(stage)
        by_http(stage)
        stage.scrape()
        raw = {"Content_Type": "message/rfc822", "X_Ingester_Recipient": "support@acme.test"}
        with frozen(own_server):
            assert b"451 4.3.0" in by_smtp(stage, "frozen", ["support@acme.test"])
            assert b" 503 " in stage.post("http frozen", PATH, mail(c, "http frozen"), **raw)
        own_server.server.stop()
        assert b"451 4.3.0" in by_smtp(stage, "gone", ["support@acme.test"])
        assert b" 503 " in stage.post("http gone", PATH, mail(c, "http gone"), **raw)
        stage.scrape()
        own_server.server.start()
        assert stage.daemon.terminate() == 0
        stage.daemon.wait_silence()
    rows = own_town.ask("SELECT string_agg(encode(data, 'escape'), '') FROM raws")
    assert {"plain: subject", "json: text", "form: html", "lmtp: to"} <= c.found(rows[0][0].encode())
    reasons = {line.get("reason") for line in stage.daemon.lines if line.get("event") in ("mail", "refused")}
    assert reasons >= {
        *("accepted", "duplicate", "cold_inbound_refused", "authentication_failed", "mailbox_suspended"),
        *("sender_blocked", "quota_exceeded", "domain_pending", "unknown_mailbox", "unknown_domain", "mail_loop"),
        *("oversized", "malformed_transfer", "too_many_recipients", "harvest_suspected", "store_unavailable"),
        "event_conflict",
    }
    assert {line["event"] for line in stage.daemon.lines} >= {
        "inbound.refused",
        "sns.refused",
        "the store is unavailable",
    }
    assert b"ingester_mails_total" in stage.replies[f"{stage.metrics}/metrics"]
    assert {one.name for one in stage.collector.spans} >= {"mail", "parse", "auth", "find", "commit"}
    assert stage.leaks() == {}


# -- mails that our own code stumbles over -------------------------------------------------------------------------


def test_no_canary_leaves_a_daemon_that_stumbles(acme: Town) -> None:
    """At every fault point the mail becomes a dead letter; the log tells of exceptions and of Postgres's faults."""
    c = Canaries()
    faults = "scan:raise@1,find:raise@1,decide:raise@1,commit:data@1,before_commit:raise@2,after_commit:raise@2"
    with staged(c, acme.url, INGESTER_ENV="development", INGESTER_TEST_FAULTS=faults) as stage:
        for name in ("scan", "find", "decide", "commit", "before commit", "after commit"):
            assert b"stored as" in by_smtp(stage, f"dead by {name}", ["support@acme.test"])
        raw = {"Content_Type": "message/rfc822", "X_Ingester_Recipient": "support@acme.test"}
        assert b'"ok":true' in stage.post("alive", PATH, mail(c, "alive"), **raw)
        stage.scrape()
        assert stage.daemon.terminate() == 0
        stage.daemon.wait_silence()
    dead = {line["arrival_id"]: line for line in stage.daemon.lines if line.get("event") == "dead letter"}
    assert {line["stage"] for line in dead.values()} == {"scan", "decide", "commit"}
    assert len(dead) == 6
    assert acme.count("dead_letters") == 5, "what fails behind its commit is there already"
    mails = [line for line in stage.daemon.lines if line.get("event") == "mail"]
    assert {line["arrival_id"] for line in mails if line["outcome"] == "dead"} == set(dead)
    failed = {str(UUID(bytes=one.trace_id)) for one in stage.collector.spans if one.status.code == 2}
    assert failed == set(dead), "spans of what went wrong"
    assert stage.leaks() == {}


def test_no_canary_leaves_a_daemon_whose_object_store_is_away(acme: Town) -> None:
    c = Canaries()
    more = {"INGESTER_BLOBS": f"s3://{c('bucket')}/raws", "INGESTER_S3__ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    more |= {"INGESTER_S3__ACCESS_KEY_ID": c("secret: access key"), "INGESTER_S3__REGION": "x"}
    with staged(c, acme.url, **more) as stage:
        assert b"451 4.3.0" in by_smtp(stage, "no object", ["support@acme.test"])
        stage.scrape()
        assert stage.daemon.terminate() == 0
        stage.daemon.wait_silence()
    assert "the object store is unavailable" in [line.get("event") for line in stage.daemon.lines]
    assert stage.leaks() == {}


# -- what Amazon says -------------------------------------------------------------------------------------------------


def notifications(c: Canaries) -> list[dict[str, Any]]:
    """Mail with its content and in two buckets, what became of mail, and what nobody has heard of."""
    content = base64.b64encode(mail(c, "ses")).decode()
    people = {"source": f"{c('ses source')}@x.test", c("ses extra key"): c("ses extra value")}
    inline = received("support@acme.test", action={"type": "SNS", "encoding": "BASE64"}, content=content, **people)
    recipients = f"{c('ses nobody')}@acme.test"
    return [
        inline,
        received(recipients, action={"type": "SNS", "encoding": "BASE64"}, content=content),
        received(action=in_s3("known-bucket", f"in/{c('object key')}")),
        received(action=in_s3("other-bucket", f"in/{c('object key elsewhere')}")),
        received(action={"type": c("ses action")}),
        bounce(c("ses message id"), extra=c("bounce extra")),
        complaint(c("ses message id again"), complaintSubType=c("complaint extra")),
        {"notificationType": c("ses type")},
        {c("ses key"): c("ses value")},
    ]


def test_no_canary_leaves_the_door_of_ses(acme: Town, tmp_path: Path) -> None:
    """Signed well, so that all of it is read; the bucket is away."""
    c, sns, said = Canaries(), FakeSns(), []
    nowhere = {"INGESTER_S3__ENDPOINT": f"http://127.0.0.1:{free_port()}", "INGESTER_S3__REGION": "x"}
    keys = {f"INGESTER_S3__{name}": c(f"secret: {name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    settings = clean_environment() | nowhere | keys
    settings |= {
        "INGESTER_ENV": "development",
        "INGESTER_LOG__FORMAT": "json",
        "INGESTER_DATABASE_URL": acme.url,
        "INGESTER_SES__TOPICS": sns.topic_arn,
        "INGESTER_SES__BUCKETS": "known-bucket/in=tenant:acme",
        "INGESTER_SES__RECONCILE_SECONDS": "1",
    }
    with ses_serving(tmp_path, sns, settings) as (_, port):
        envelopes = [sns.notification(one, subject=c("sns subject")) for one in notifications(c)]
        envelopes += [sns.notification(c("no notification")), sns.notification("{}", message_id=c("message id"))]
        envelopes += [sns.subscription(), sns.unsubscription(), sns.notification("x", TopicArn=f"{sns.topic_arn}-x")]
        for number, envelope in enumerate(envelopes):
            c.adopt(f"signature {number}", envelope["Signature"][:40])
            if "Token" in envelope:
                c.adopt(f"token {number}", envelope["Token"])
            for path in (SES, "/events/ses"):
                body = body_of(envelope)
                said.append(exchange(port, request(path, body, **_named(headers_of(envelope))), half_close=False))
    log = (tmp_path / "log").read_bytes()
    assert acme.count("messages") == 1
    events = {json.loads(line)["event"] for line in log.splitlines()}
    assert events >= {"mail", "refused", "ses.bucket_unavailable", "ses.bucket_unknown", "ses.ignored", "ses.malformed"}
    assert events >= {"sns.not_confirmed", "sns.unsubscribed", "sns.refused"}
    assert c.found(log) == set()
    assert c.found(b"".join(said)) == set()


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


# -- the search would find them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
def test_addresses_are_found_where_they_are_allowed(acme: Town, form: str) -> None:
    """The control: the same search, in the log of a daemon that may tell addresses. And no more than these."""
    c = Canaries()
    with staged(c, acme.url, INGESTER_LOG__ADDRESSES="yes", INGESTER_LOG__FORMAT=form) as stage:
        assert b"stored as" in by_smtp(stage, "told", [f"support+{c('tag')}@acme.test"])
        assert b"550" in by_smtp(stage, "refused", [f"{c('nobody')}@acme.test"])
        assert stage.daemon.terminate() == 0
        stage.daemon.wait_silence()
    senders = {f"{name}: mail from{more}" for name in ("told", "refused") for more in ("", " domain")}
    assert stage.leaks() == {"log": {"tag", "nobody", *senders}}


def test_the_search_knows_a_word_in_every_dress() -> None:
    c = Canaries()
    word = c("x")
    for before in ("", "a", "bc", "def"):
        dresses = (
            word,
            word.upper(),
            (before + word).encode().hex(),
            base64.b64encode((before + word + "gh").encode()).decode(),
        )
        for dress in dresses:
            assert c.found(f"{{{dress}}}".encode()) == {"x"}, (before, dress)
    assert c.found(word[:-1].encode()) == set()


# -- secrets that are wrong ------------------------------------------------------------------------------------------


def test_no_secret_is_told_by_settings_that_are_refused() -> None:
    c = Canaries()
    settings = {
        "INGESTER_ENV": "production",
        "INGESTER_DATABASE_URL": f"mysql://{c('user')}:{c('password')}@{c('host')}/x",
        "INGESTER_INBOUND_TOKEN": c("token")[:20],
        "INGESTER_REPLY_TOKEN_SECRETS": f"{c('reply secret')},{c('another')}",
        "INGESTER_S3__ENDPOINT": f"ftp://{c('s3 user')}:{c('s3 password')}@x",
        "INGESTER_TRACES__ENDPOINT": f"http://{c('collector user')}:{c('collector password')}@x",
        "INGESTER_TRACES__HEADERS": c("header"),
        "INGESTER_BLOBS": f"s3://{c('blob user')}@x",
        "INGESTER_SMTP__LISTEN": c("listen"),
    }
    words = [sys.executable, "-m", "ingester", "serve"]
    done = run(words, cwd=ROOT, env=clean_environment() | settings, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(b"INGESTER_") >= len(settings) - 1
    assert c.found(done.stdout + done.stderr) == set()

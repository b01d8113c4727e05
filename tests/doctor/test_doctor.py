"""`ingester doctor`: each fault that is planted in a sound set-up is found, and the advice says what to do."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.doctor.conftest import HOST, MACHINE, SECRET, Practice
from tests.ports import free_port
from tests.zones import Fault

Plant = Callable[[Practice, Path], object]


def test_in_a_sound_set_up_nothing_is_wrong(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    found = practice.findings(monkeypatch)
    assert [one for one in found if one["level"] != "ok" and one["check"] not in MACHINE] == []
    said = {(one["check"], one["what"]) for one in found}
    assert ("certificate", "its chain is complete") in said
    assert ("acme.test", f"its mail goes to {HOST}") in said
    assert ("acme.test", "verified for the tenant acme") in said
    assert ("database", "all migrations are there, unedited") in said


def _set(**env: str) -> Plant:
    return lambda practice, _: practice.env.update(env)


def _unset(name: str) -> Plant:
    return lambda practice, _: practice.env.pop(name)


def _zone(name: str, *entries: object) -> Plant:
    return lambda practice, _: practice.zone.update({name: list(entries)})


def _sql(statement: str) -> Plant:
    return lambda practice, _: practice.sql(statement.format(database=urlsplit(practice.database.owner).path[1:]))


def _with(*arguments: str) -> Plant:
    return lambda practice, _: practice.arguments.extend(arguments)


def _certificate(host: str = HOST, *, days: float = 60, whole: bool = True) -> Plant:
    return lambda practice, directory: practice.env.update(
        practice.authority.write(directory, host, days=days, whole=whole)
    )


def _superuser(practice: Practice, _: Path) -> None:
    practice.env["INGESTER_DATABASE_URL"] = practice.database.owner


def _owner(practice: Practice, _: Path) -> None:
    practice.sql(f"ALTER TABLE messages OWNER TO {practice.database.role}")


def _nobody_known(practice: Practice, _: Path) -> None:
    url = urlsplit(practice.env["INGESTER_DATABASE_URL"])
    practice.env["INGESTER_DATABASE_URL"] = url._replace(path="/nowhere").geturl()


def _stranger(practice: Practice, _: Path) -> None:
    url = urlsplit(practice.env["INGESTER_DATABASE_URL"])
    practice.env["INGESTER_DATABASE_URL"] = url._replace(netloc=f"nobody:x@{url.hostname}:{url.port}").geturl()


def _nobody_there(practice: Practice, _: Path) -> None:
    practice.env["INGESTER_DATABASE_URL"] = f"postgresql://a:b@127.0.0.1:{free_port()}/c"


def _foreign_key(practice: Practice, directory: Path) -> None:
    other = directory / "other.pem"
    other.write_bytes(practice.authority.issue(HOST).key_pem)
    practice.env["INGESTER_SMTP__TLS_KEY"] = str(other)


def _ended_intermediate(practice: Practice, directory: Path) -> None:
    practice.authority.outlive()
    practice.env.update(practice.authority.write(directory, HOST))


def _trust_nobody(practice: Practice, directory: Path) -> None:
    """A certificate that signs itself."""
    (directory / "chain.pem").write_bytes(practice.authority.root.pem)
    (directory / "key.pem").write_bytes(practice.authority.root.key_pem)
    practice.env["SSL_CERT_FILE"] = str(directory / "none.pem")
    (directory / "none.pem").write_text("")


def _receipts(client_ip: str, mails: int, door: str = "smtp") -> Plant:
    """Mails of today from one address. The first id is of the last hour (UUIDv7 begins with milliseconds)."""
    return _sql(
        f"""
        INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, client_ip,
                              raw_sha256, received_at, duplicate)
        SELECT t.id, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')
                      || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
               gen_random_uuid(), gen_random_uuid(), '{door}', 'a@b.test', '{{{{c@acme.test}}}}', '{client_ip}',
               '', now(), false
        FROM tenants t, generate_series(1, {mails}) n WHERE t.slug = 'acme'
        """
    )


def _no_certificate(practice: Practice, _: Path) -> None:
    del practice.env["INGESTER_SMTP__TLS_CERT"], practice.env["INGESTER_SMTP__TLS_KEY"]


def _half_a_policy(practice: Practice, _: Path) -> None:
    practice.arguments.append("sub.acme.test")
    practice.zone["_dmarc.acme.test"] = [{"TXT": "v=DMARC1; p=reject; sp=none"}]


def _revoked_key(practice: Practice, _: Path) -> None:
    practice.arguments += ["--selector", "s1"]
    practice.zone["s1._domainkey.acme.test"] = [{"TXT": "v=DKIM1; p="}]


_BURY = """
    INSERT INTO dead_letters (tenant_id, id, kind, reason, detail, envelope, client_prefix, raw_id, created_at,
                              buried_by)
    SELECT id, gen_random_uuid(), 'mail', 'ValueError', '', '{{}}', '', gen_random_uuid(),
           now() - interval '3 days', {by}
    FROM tenants WHERE slug = 'acme'
    """

FAULTS: dict[str, tuple[Plant, str, str, str]] = {
    # name: how it is planted, "level check", words of the finding, words of the advice
    "no secret": (_unset("INGESTER_REPLY_TOKEN_SECRETS"), "fault settings", "REPLY_TOKEN_SECRETS is not set", "start"),
    "a setting misspelt": (_set(INGESTER_WORKER="2"), "fault settings", "did you mean INGESTER_WORKERS?", "start"),
    "development": (_set(INGESTER_ENV="development"), "warning settings", "is development", "=production"),
    "everybody is a proxy": (
        _set(INGESTER_SMTP__PROXY_NETWORKS="0.0.0.0/0"),
        "fault settings",
        "INGESTER_SMTP__PROXY_NETWORKS is the whole internet",
        "your own proxies",
    ),
    "addresses in logs": (_set(INGESTER_LOG__ADDRESSES="true"), "warning settings", "in clear", "LOG__ADDRESSES=false"),
    "a secret to be guessed": (
        _set(INGESTER_REPLY_TOKEN_SECRETS="x" * 40),
        "fault secrets",
        "can be guessed",
        "openssl rand -hex 32",
    ),
    "one secret for two things": (
        _set(INGESTER_INBOUND_TOKEN=SECRET),
        "fault secrets",
        "INGESTER_INBOUND_TOKEN is also a secret of reply tokens",
        "openssl rand",
    ),
    "no secret in development": (
        lambda practice, _: practice.env.update(INGESTER_ENV="development", INGESTER_REPLY_TOKEN_SECRETS=""),
        "warning secrets",
        "there is none for reply tokens",
        "openssl rand -hex 32",
    ),
    "database away": (_nobody_there, "fault database", "cannot be reached (ConnectionRefusedError)", "whether it runs"),
    "no such database": (_nobody_known, "fault database", "no database of that name", "createdb"),
    "no such user": (_stranger, "fault database", "refuses the user or the password", "pg_hba.conf"),
    "asynchronous commit": (
        _sql("ALTER DATABASE {database} SET synchronous_commit = off"),
        "fault database",
        "synchronous_commit is off",
        "SET synchronous_commit = on",
    ),
    "read-only": (
        _sql("ALTER DATABASE {database} SET default_transaction_read_only = on"),
        "fault database",
        "takes no writes",
        "the primary",
    ),
    "migration missing": (
        _sql("DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)"),
        "fault database",
        "lacks migrations: 00",
        "ingester migrate",
    ),
    "migration edited": (
        _sql("UPDATE schema_migrations SET sha256 = 'x' WHERE number = 2"),
        "fault database",
        "0002_senders is not the one that was applied",
        "restore the file",
    ),
    "too many connections": (
        _set(INGESTER_WORKERS="16", INGESTER_STORE__CONNECTIONS="8"),
        "fault database",
        "may open 144 connections (16 workers), the server has room for 57",
        "max_connections",
    ),
    "superuser": (_superuser, "warning roles", "a superuser", "ingester roles"),
    "owner": (_owner, "warning roles", "owns the tables", "ingester roles"),
    "table without a wall": (
        _sql("ALTER TABLE parts DISABLE ROW LEVEL SECURITY"),
        "fault roles",
        "without row-level security: parts",
        "ingester roles --apply",
    ),
    "dead letters": (
        _sql(_BURY.replace("{by}", "'0.1.0'")),
        "warning dead letters",
        "one waits with the reason ValueError, for up to 3 days",
        "ingester dead list --reason ValueError",
    ),
    "dead letters of an older version": (
        _sql(_BURY.replace("{by}", "'0.0.9'")),
        "warning dead letters",
        "buried by version 0.0.9",
        "ingester dead redrive --buried-by 0.0.9",
    ),
    "a docker gateway": (
        _receipts("172.17.0.1", 40),
        "fault client addresses",
        "40 of 40 mails of a day seem to come from 172.17.0.1, the gateway of a docker network",
        "INGESTER_SMTP__PROXY_NETWORKS=172.17.0.1",
    ),
    "a node of Kubernetes": (
        _receipts("10.244.1.7", 40),
        "fault client addresses",
        "10.244.1.7, a private address",
        "externalTrafficPolicy: Local",
    ),
    "a proxy on this host": (
        _receipts("127.0.0.1", 40),
        "fault client addresses",
        "127.0.0.1, this host itself",
        "PROXY protocol",
    ),
    "resolver silent": (
        lambda practice, _: practice.env.update(INGESTER_DNS__NAMESERVERS=f"127.0.0.1:{free_port()}"),
        "fault resolver",
        "127.0.0.1 does not answer",
        "INGESTER_DNS__NAMESERVERS",
    ),
    "one resolver of two silent": (
        lambda practice, _: practice.env.update(
            INGESTER_DNS__NAMESERVERS=f"{practice.env['INGESTER_DNS__NAMESERVERS']},127.0.0.1:{free_port()}"
        ),
        "warning resolver",
        "127.0.0.1 does not answer: every question to it waits in vain",
        "INGESTER_DNS__NAMESERVERS",
    ),
    "resolver believes bogus names": (
        _zone("dnssec-failed.org", {"A": "192.0.2.1"}),
        "warning resolver",
        "does not validate DNSSEC",
        "unbound",
    ),
    "resolver without the world": (_zone("org", Fault.SERVFAIL), "warning resolver", "cannot be seen", "root servers"),
    "resolver invents": (
        _zone("invalid", {"A": "192.0.2.80"}),
        "fault resolver",
        "an address for a name that does not exist",
        "tells the truth",
    ),
    "greeting is no name": (
        _set(INGESTER_SMTP__HOSTNAME="localhost"),
        "fault hostname",
        "localhost, which is not the full name",
        "INGESTER_SMTP__HOSTNAME",
    ),
    "greeting without an address": (_zone(HOST, {"TXT": "x"}), "fault hostname", "has no address", "(A, AAAA)"),
    "reverse DNS of another": (
        _zone("25.2.0.192.in-addr.arpa", {"PTR": "pool-25.isp.test"}),
        "warning hostname",
        "whose reverse DNS says pool-25.isp.test",
        f"(PTR) to {HOST}",
    ),
    "no reverse DNS": (_zone("25.2.0.192.in-addr.arpa"), "warning hostname", "says nothing", "PTR"),
    "no certificate": (
        _no_certificate,
        "warning certificate",
        "clear text",
        "INGESTER_SMTP__TLS_CERT",
    ),
    "certificate at its end": (_certificate(days=3.5), "warning certificate", "it ends in 3 days", "Renew"),
    "certificate past its end": (_certificate(days=-3), "fault certificate", "ended 3 days ago", "Renew"),
    "certificate of another": (
        _certificate("www.acme.test"),
        "fault certificate",
        f"it is for www.acme.test, and the greeting says {HOST}",
        "INGESTER_SMTP__HOSTNAME",
    ),
    "intermediate missing": (
        _certificate(whole=False),
        "fault certificate",
        "intermediate is missing",
        "fullchain.pem",
    ),
    "intermediate past its end": (
        _ended_intermediate,
        "fault certificate",
        "who checks it refuses the chain (OpenSSL: 10)",
        "openssl verify",
    ),
    "key of another": (_foreign_key, "fault certificate", "is not that of the certificate", "Copy both"),
    "signed by itself": (_trust_nobody, "warning certificate", "signed by itself", "Let's Encrypt"),
    "nobody listens": (
        lambda practice, _: practice.env.update(INGESTER_SMTP__LISTEN=f"127.0.0.1:{free_port()}"),
        "warning listeners",
        "nobody listens, though somebody could",
        "ingester serve",
    ),
    "address of another host": (
        _set(INGESTER_SMTP__LISTEN="192.0.2.77:2525"),
        "fault listeners",
        "192.0.2.77 is no address of this host",
        "will not start",
    ),
    "two doors, one address": (
        _set(INGESTER_LMTP__LISTEN="127.0.0.1:18191", INGESTER_METRICS__LISTEN="127.0.0.1:18191"),
        "fault settings",
        "INGESTER_LMTP__LISTEN and INGESTER_METRICS__LISTEN want the same address twice",
        "will not start",
    ),
    "a socket nowhere": (
        _set(INGESTER_LMTP__LISTEN="unix:/nowhere/lmtp"),
        "fault listeners",
        "/nowhere is no directory: make it",
        "will not start",
    ),
    "domain pending": (
        _sql("UPDATE domains SET status = 'pending'"),
        "fault acme.test",
        "pending for acme: its mail is answered 450",
        "ingester domain verify acme.test --tenant acme",
    ),
    "domain unknown": (
        _with("globex.test"),
        "fault globex.test",
        "the directory does not have it",
        "ingester domain add",
    ),
    "no domain": (_sql("DELETE FROM domains"), "warning directory", "no domain", "ingester domain add"),
    "no MX": (_zone("acme.test", {"TXT": "v=spf1 -all"}), "fault acme.test", "no MX record", f"MX 10 {HOST}."),
    "not in DNS": (_zone("acme.test", {"MX": Fault.REFUSED}), "fault acme.test", "cannot be had", "name servers"),
    "null MX": (_zone("acme.test", {"MX": [0, "."]}), "fault acme.test", "takes no mail", f"MX 10 {HOST}."),
    "MX elsewhere": (
        lambda practice, _: practice.zone.update(
            {"acme.test": [{"MX": [10, "mx.isp.test"]}], "mx.isp.test": [{"A": "192.0.2.99"}]}
        ),
        "fault acme.test",
        "its mail goes elsewhere: mx.isp.test",
        f"Let its MX name {HOST}",
    ),
    "MX in part elsewhere": (
        lambda practice, _: practice.zone.update(
            {"acme.test": [{"MX": [10, HOST]}, {"MX": [20, "old.isp.test"]}], "old.isp.test": [{"A": "192.0.2.99"}]}
        ),
        "warning acme.test",
        "a part of its mail may go elsewhere: old.isp.test",
        "Remove those MX records",
    ),
    "MX is an alias": (
        lambda practice, _: practice.zone.update(
            {"acme.test": [{"MX": [10, "mail.acme.test"]}], "mail.acme.test": [{"CNAME": HOST}]}
        ),
        "fault acme.test",
        f"mail.acme.test is an alias of {HOST}",
        "address record",
    ),
    "MX is an address": (_zone("acme.test", {"MX": [10, "192.0.2.25"]}), "fault acme.test", "is the address", "name"),
    "MX without an address": (_zone("acme.test", {"MX": [10, "gone.test"]}), "fault acme.test", "no address", "AAAA"),
    "no SPF": (_zone("acme.test", {"MX": [10, HOST]}), "warning acme.test", "no SPF record", "v=spf1 -all"),
    "two SPF": (
        _zone("acme.test", {"MX": [10, HOST]}, {"TXT": "v=spf1 mx -all"}, {"TXT": "v=spf1 a -all"}),
        "fault acme.test",
        "acme.test has 2 SPF records",
        "Correct it",
    ),
    "SPF cannot be read": (
        _zone("acme.test", {"MX": [10, HOST]}, {"TXT": "v=spf1 ip4:1.2.3 -all"}),
        "fault acme.test",
        "term 1, ip4:1.2.3 names no network",
        "Correct it",
    ),
    "SPF for the world": (
        _zone("acme.test", {"MX": [10, HOST]}, {"TXT": "v=spf1 +all"}),
        "fault acme.test",
        "lets the whole world send in its name (+all)",
        "-all",
    ),
    "SPF for the world by another": (
        lambda practice, _: practice.zone.update(
            {
                "acme.test": [{"MX": [10, HOST]}, {"TXT": "v=spf1 include:isp.test -all"}],
                "isp.test": [{"TXT": "v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all"}],
            }
        ),
        "fault acme.test",
        "lets the whole world send in its name (include:isp.test)",
        "-all",
    ),
    "SPF of nobody": (
        _zone("acme.test", {"MX": [10, HOST]}, {"TXT": "v=spf1 include:gone.test -all"}),
        "fault acme.test",
        "its SPF record is as good as none",
        "Correct it",
    ),
    "no DMARC": (_zone("_dmarc.acme.test"), "warning acme.test", "no DMARC record", "_dmarc.acme.test"),
    "DMARC none": (
        _zone("_dmarc.acme.test", {"TXT": "v=DMARC1; p=none"}),
        "warning acme.test",
        "the DMARC policy at _dmarc.acme.test is none",
        "quarantine",
    ),
    "DMARC without a policy": (
        _zone("_dmarc.acme.test", {"TXT": "v=DMARC1; p=rejct"}),
        "fault acme.test",
        "no valid policy",
        "p= tag",
    ),
    "DMARC twice": (
        _zone("_dmarc.acme.test", {"TXT": "v=DMARC1; p=none"}, {"TXT": "v=DMARC1; p=reject"}),
        "warning acme.test",
        "_dmarc.acme.test cannot be had (malformed)",
        "one record",
    ),
    "DMARC of the parent": (
        _half_a_policy,
        "warning sub.acme.test",
        "the DMARC policy at _dmarc.acme.test is none",
        "quarantine",
    ),
    "DKIM key missing": (
        _with("--selector", "s1"),
        "fault acme.test",
        "no DKIM key at s1._domainkey.acme.test (no_name)",
        "Publish",
    ),
    "DKIM key revoked": (
        _revoked_key,
        "fault acme.test",
        "the key is revoked",
        "Publish",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(
    practice: Practice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    plant, where, what, advice = FAULTS[name]
    plant(practice, tmp_path)
    for variable in ("SSL_CERT_FILE",):
        if variable in practice.env:
            monkeypatch.setenv(variable, practice.env.pop(variable))
    found = practice.findings(monkeypatch)
    matching = [one for one in found if f"{one['level']} {one['check']}" == where and what in one["what"]]
    assert matching, [one for one in found if one["level"] != "ok"]
    assert advice in matching[0]["advice"]
    assert all(one["advice"] for one in found if one["level"] != "ok")

"""What SES found out about a sender counts where somebody has put SES into the registry of forwarders, and not else."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingester.core.envelope import Door
from ingester.core.ids import SYSTEM_TENANT
from ingester.store.senders import add_forwarder
from tests.nameserver import NameServer
from tests.transport.ses.house import House, mail, received, running

ZONE: dict[str, list[Any]] = {"_dmarc.customer.test": [{"TXT": "v=DMARC1; p=reject"}]}
RECEIVED = (
    b"Received: from mx.customer.test (mx.customer.test [192.0.2.1])\r\n"
    b" by inbound-smtp.eu-west-1.amazonaws.com with SMTP id d6iitobk75 for support@acme.test;\r\n"
    b" Sat, 21 Nov 2026 08:00:00 +0000 (UTC)\r\n"
)
RESULTS = (
    b"Authentication-Results: amazonses.com;\r\n"
    b" spf=pass (spfCheck: domain of customer.test designates 192.0.2.1 as permitted sender) client-ip=192.0.2.1;\r\n"
    b" envelope-from=ada@customer.test; helo=mx.customer.test;\r\n"
    b" dkim=pass header.i=@customer.test;\r\n"
    b" dmarc=pass header.from=customer.test;\r\n"
)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with NameServer(zone=ZONE) as server:
        host, port = server.address
        async with running(database_url, dns__nameservers=f"{host}:{port}") as one:
            yield one


async def trust(house: House) -> None:
    async with house.app.database.connection() as connection:
        assert await add_forwarder(
            connection, tenant_id=SYSTEM_TENANT, kind="authserv_id", name="amazonses.com", networks=()
        )


async def verdict(house: House, raw: bytes) -> tuple[str, bool]:
    """DMARC as it is stored, and whether the sender is verified."""
    message = received(action={"type": "SNS"}, content=raw.decode())
    assert (await house.tell(message)).status == 202
    (row,) = await house.town.fetch("SELECT dmarc, sender_verified FROM messages ORDER BY id DESC LIMIT 1")
    return row["dmarc"], row["sender_verified"]


async def test_what_ses_says_counts_for_who_trusts_it(house: House) -> None:
    assert await verdict(house, RECEIVED + RESULTS + mail("before")) == ("unknown", False)
    await trust(house)
    assert await verdict(house, RECEIVED + RESULTS + mail("after")) == ("pass_via_forwarder", True)


async def test_what_the_sender_wrote_in_its_name_does_not_count(house: House) -> None:
    """SES's own field is the topmost; what a stranger has put beneath it, or under a host of his, is not SES's."""
    await trust(house)
    failed = RESULTS.replace(b"pass", b"fail")
    stranger = b"Received: from a by b.customer.test; Sat, 21 Nov 2026 08:00:00 +0000\r\n"
    lookalike = RECEIVED.replace(b"inbound-smtp.", b"inbound-smtp.x.")
    for number, head in enumerate(
        (
            RECEIVED + failed + RESULTS,
            RECEIVED + stranger + RESULTS,
            stranger + RESULTS,
            lookalike + RESULTS,
            RECEIVED.replace(b"amazonaws.com", b"amazonaws.com.evil.test") + RESULTS,
            RECEIVED + RESULTS.replace(b"amazonses.com", b"ses.evil.test"),
            RECEIVED
            + RESULTS.replace(b"customer.test;\r\n dkim", b"other.test;\r\n dkim")
            .replace(b"@customer.test;\r\n dmarc", b"@other.test;\r\n dmarc")
            .replace(b"from=customer.test", b"from=other.test"),
        )
    ):
        assert await verdict(house, head + mail(f"n{number}")) == ("unknown", False), head


async def test_at_another_door_it_still_needs_a_network(house: House) -> None:
    """Anybody can bring such a mail by SMTP."""
    from tests.test_pipeline import envelope

    await trust(house)
    outcome = await house.app.pipeline.accept(envelope(RECEIVED + RESULTS + mail()))
    assert outcome.stored
    (row,) = await house.town.fetch("SELECT r.door, m.dmarc FROM messages m JOIN receipts r ON r.message_id = m.id")
    assert (row["door"], row["dmarc"]) == (Door.SMTP, "fail")

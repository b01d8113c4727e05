"""The connection: TLS, PROXY, caps, deadlines, the farewell."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ingester.core.outcome import CODES, Reason
from ingester.transport import command
from ingester.transport.smtp_link import Phase
from tests.transport.certificates import common_name, write_certificate
from tests.transport.stubs import House, Peer, running
from tests.transport.test_smtp import STORED


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    cert, key = write_certificate(tmp_path, "one.test")
    return {"smtp__tls_cert": cert, "smtp__tls_key": key}


async def ready_for_tls(house: House) -> Peer:
    peer = await house.connect()
    await peer.reply()
    assert "250-STARTTLS" in await peer.ask("EHLO clear.test")
    return peer


async def test_starttls_begins_anew(tls: dict[str, Any]) -> None:
    async with running(**tls) as house:
        peer = await ready_for_tls(house)
        assert (await peer.ask("STARTTLS now")).startswith("501 5.5.4")
        assert (await peer.ask("MAIL FROM:<a@b.test>")).startswith("250")
        assert await peer.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        await peer.start_tls()
        assert (await peer.ask("MAIL FROM:<a@b.test>")).startswith("503 5.5.1")
        assert "STARTTLS" not in await peer.ask("EHLO secret.test")
        assert (await peer.ask("STARTTLS")).startswith("503 5.5.1")
        await peer.announce()
        await peer.send(b"x" * 300_000 + b"\r\n.\r\n")
        assert await peer.reply() == STORED
        assert await peer.ask("QUIT") == "221 2.0.0 Bye"
        (mail,) = house.pipeline.mails
        assert (mail.client.tls, mail.client.helo, len(mail.raw)) == ("TLSv1.3", "secret.test", 300_002)


@pytest.mark.parametrize("packets", [1, 2])
async def test_what_came_in_clear_behind_starttls_is_not_read(tls: dict[str, Any], packets: int) -> None:
    async with running(**tls) as house:
        peer = await ready_for_tls(house)
        injected = b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<support@demo.test>\r\n"
        await peer.send(b"STARTTLS\r\n" + (injected if packets == 1 else b""))
        assert (await peer.reply()).startswith("220")
        if packets == 2:
            await peer.send(injected)
            assert await peer.rest() == b""  # clear text in the place of a handshake
            return
        await peer.start_tls()
        assert (await peer.ask("EHLO a")).startswith("250")
        assert (await peer.ask("RCPT TO:<support@demo.test>")).startswith("503 5.5.1")


async def test_commands_sent_with_the_end_of_the_handshake_are_answered(tls: dict[str, Any]) -> None:
    async with running(**tls) as house:
        peer = await ready_for_tls(house)
        assert (await peer.ask("STARTTLS")).startswith("220")
        await peer.start_tls()
        await peer.send(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<support@demo.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
        assert (await peer.rest()).decode().splitlines()[-5:] == [
            command.SENDER_OK,
            command.RECIPIENT_OK,
            command.GO_AHEAD,
            STORED,
            command.BYE,
        ]


async def test_a_stalled_handshake_is_cut_and_counted_out(tls: dict[str, Any]) -> None:
    async with running(**tls) as house:
        peer = await ready_for_tls(house)
        assert (await peer.ask("STARTTLS")).startswith("220")
        await house.until(lambda: next(iter(house.dialogs)).phase is Phase.HANDSHAKE)
        await house.pass_time(31)
        assert await peer.rest() == b""
        await house.until(lambda: len(house.door.desk.connections) == 0)
        await house.until(lambda: not house.dialogs)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_hanging_up_behind_the_dot_in_tls_stores_the_mail(tls: dict[str, Any], version: ssl.TLSVersion) -> None:
    async with running(**tls) as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await ready_for_tls(house)
        await peer.ask("STARTTLS")
        await peer.start_tls(version)
        await peer.ask("EHLO a")
        await peer.announce()
        await peer.send(b"x\r\n.\r\n")
        await house.pipeline.arrived.wait()
        peer.close()
        await house.until(lambda: next(iter(house.dialogs), None) is None)
        gate.set()
        await house.pipeline.done.wait()
        assert house.pipeline.mails[0].client.tls == version.name.replace("_", ".")


async def test_a_new_certificate_is_shown_to_new_connections(tls: dict[str, Any], tmp_path: Path) -> None:
    async def shown(house: House) -> str:
        peer = await ready_for_tls(house)
        await peer.ask("STARTTLS")
        session = await peer.start_tls()
        return common_name(session.getpeercert(binary_form=True) or b"")

    async with running(**tls) as house:
        assert await shown(house) == "one.test"
        write_certificate(tmp_path, "two.test")
        house.clock.now += 2
        assert await shown(house) == "two.test"
        tls["smtp__tls_cert"].write_bytes(b"broken")
        house.clock.now += 2
        assert await shown(house) == "two.test"


# PROXY


async def test_a_proxied_client_is_known_by_its_own_address() -> None:
    async with running(smtp__proxy_networks="127.0.0.0/8") as house:
        peer = await house.connect()
        await peer.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n")
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        assert await peer.reply() == STORED
        assert house.pipeline.mails[0].client.ip == "192.0.2.7"
        assert house.pipeline.asked_for is not None
        assert house.pipeline.asked_for.ip == "192.0.2.7"


async def test_a_header_in_pieces_and_the_proxys_own_connection() -> None:
    async with running(smtp__proxy_networks="127.0.0.1") as house:
        peer = await house.connect()
        await peer.send_split(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        assert await peer.reply() == STORED
        assert house.pipeline.mails[0].client.ip == "127.0.0.1"


async def test_a_trusted_network_without_a_header_is_hung_up_on() -> None:
    async with running(smtp__proxy_networks="127.0.0.1") as house:
        peer = await house.connect()
        await peer.send(b"EHLO a\r\n")
        assert await peer.rest() == b""
        silent = await house.connect()
        await house.until(lambda: len(house.door.desk.connections) == 1)
        await house.pass_time(301)
        assert await silent.reply() == command.TIMED_OUT


async def test_a_header_from_elsewhere_is_a_command_not_known() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        assert (await peer.ask("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25")).startswith("500 5.5.1")


async def test_proxied_clients_have_the_cap_of_their_own_prefix() -> None:
    async with running(smtp__proxy_networks="127.0.0.1", smtp__max_connections_per_prefix=1) as house:
        greetings = []
        for source in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
            peer = await house.connect()
            await peer.send(f"PROXY TCP4 {source} 198.51.100.1 40000 25\r\n".encode())
            greetings.append((await peer.reply())[:3])
        assert greetings == ["220", "220", "421"]


# Caps


@pytest.mark.parametrize("cap", ["smtp__max_connections", "smtp__max_connections_per_prefix"])
async def test_one_connection_too_many_is_turned_away(cap: str) -> None:
    setting: dict[str, Any] = {cap: 2}
    async with running(**setting) as house:
        first, second = await house.connect(), await house.connect()
        assert (await first.reply())[:3] == (await second.reply())[:3] == "220"
        third = await house.connect()
        assert await third.rest() == command.TOO_MANY_CONNECTIONS.encode() + b"\r\n"
        assert house.pipeline.reasons == [Reason.OVERLOADED]
        assert await first.ask("QUIT") == command.BYE
        await house.until(lambda: len(house.door.desk.connections) == 1)
        again = await house.connect()
        assert (await again.reply())[:3] == "220"


# Deadlines


async def say_nothing(_: Peer) -> None:
    return


async def drip(peer: Peer) -> None:
    await peer.send(b"NO")


async def open_transaction(peer: Peer) -> None:
    await peer.ask("EHLO a")
    await peer.ask("MAIL FROM:<a@b.test>")


@pytest.mark.parametrize("before", [say_nothing, drip, open_transaction])
async def test_an_idle_session_is_cut_with_a_reply(before: Callable[[Peer], Awaitable[None]]) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await before(peer)
        await house.pass_time(299)
        assert len(house.dialogs) == 1
        await house.pass_time(2)
        assert await peer.rest() == command.TIMED_OUT.encode() + b"\r\n"


async def test_dripping_octets_is_idling() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        for _ in range(4):
            await peer.send(b"N")
            await house.until(lambda: next(iter(house.dialogs)).inbox.peek() != b"")
            await house.pass_time(80)
        assert await peer.rest() == command.TIMED_OUT.encode() + b"\r\n"


async def test_commands_keep_a_session_open_until_its_limit() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        for _ in range(8):
            await house.pass_time(220)
            assert (await peer.ask("NOOP")).startswith("250")
        await house.pass_time(100)
        assert await peer.rest() == command.TIMED_OUT.encode() + b"\r\n"


async def test_idling_is_shorter_when_the_door_is_overloaded() -> None:
    async with running(smtp__max_connections=2) as house:
        one = await house.connect()
        await one.reply()
        await house.pass_time(11)
        two = await house.connect()
        await two.reply()
        await house.pass_time(1)
        assert await one.rest() == command.TIMED_OUT.encode() + b"\r\n"
        assert (await two.ask("NOOP")).startswith("250")


async def begun(house: House) -> Peer:
    peer = await house.connect()
    await peer.begin()
    return peer


async def arrive(house: House, peer: Peer, data: bytes) -> None:
    """Send data and see it counted."""
    transfer = next(iter(house.dialogs)).transfer
    assert transfer is not None
    expected = transfer.reader.seen + len(data)
    await peer.send(data)
    await house.until(lambda: transfer.reader.seen == expected)


async def test_steady_data_is_not_cut_by_the_session_limit() -> None:
    async with running() as house:
        peer = await begun(house)
        for _ in range(40):
            await arrive(house, peer, b"x" * 30_998 + b"\r\n")
            await house.pass_time(60)
        await peer.send(b".\r\n")
        assert await peer.reply() == STORED
        assert len(house.pipeline.mails[0].raw) == 40 * 31_000
        await house.pass_time(1)
        assert await peer.rest() == command.TIMED_OUT.encode() + b"\r\n"  # the session limit is long past


async def test_data_below_the_minimum_rate_is_cut() -> None:
    async with running() as house:
        peer = await begun(house)
        await arrive(house, peer, b"x" * 31_000)
        await house.pass_time(60)
        await arrive(house, peer, b"x" * 29_000)
        await house.pass_time(59)
        assert house.dialogs
        await house.pass_time(1)
        assert await peer.rest() == command.TOO_SLOW.encode() + b"\r\n"
        assert (house.pipeline.mails, house.door.desk.flight.used) == ([], 0)


async def test_stalled_data_is_cut_where_no_rate_is_asked() -> None:
    async with running(smtp__min_bytes_per_second=0) as house:
        peer = await begun(house)
        await arrive(house, peer, b"x")
        await house.pass_time(250)
        await house.pass_time(299)
        assert len(house.dialogs) == 1
        await house.pass_time(1)
        assert await peer.rest() == command.TOO_SLOW.encode() + b"\r\n"


async def test_an_acceptance_is_not_cut_by_any_deadline() -> None:
    async with running() as house:
        house.pipeline.gate = gate = asyncio.Event()
        peer = await begun(house)
        await peer.send(b"x\r\n.\r\n")
        await house.pipeline.arrived.wait()
        await house.pass_time(3000)
        gate.set()
        assert await peer.reply() == STORED


async def test_a_client_that_reads_no_replies_is_aborted() -> None:
    async with running() as house:
        peer = await house.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        # Not drained: the door stops reading once its own replies are not taken.
        peer.writer.write(b"EHLO a\r\n" * 500_000)
        await house.until(lambda: next(iter(house.dialogs)).phase is Phase.FLUSHING)
        await house.pass_time(301)
        await house.until(lambda: len(house.door.desk.connections) == 0)
        assert not house.dialogs


async def test_lingering_ends_when_nothing_more_comes() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.send(b"GET / HTTP/1.1\r\n")
        assert (await peer.reply()).startswith("502")
        (dialog,) = house.dialogs
        await house.until(lambda: dialog.phase is Phase.LEAVING)
        await peer.send(b"Host: x\r\n")
        await house.until(lambda: dialog._lingered == 9)
        await house.pass_time(1)
        assert dialog.phase is Phase.LEAVING
        await house.pass_time(2)
        await house.until(lambda: not house.dialogs)


async def test_a_refusal_in_mid_data_reaches_a_client_that_is_still_sending() -> None:
    """Closing at once would reset the connection and lose the reply."""
    async with running() as house:
        peer = await begun(house)
        await peer.send(b"x\n.\n" + b"y" * 5_000_000)
        assert await peer.rest() == CODES[Reason.MALFORMED_TRANSFER].line.encode() + b"\r\n"
        assert house.pipeline.reasons == [Reason.MALFORMED_TRANSFER]

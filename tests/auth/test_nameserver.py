"""The name server of the tests does what its faults are named for; asked by dnspython, which knows nothing of ours."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.nameserver import FORGED, NameServer, in_thread
from tests.zones import Data, Fault

ZONE: Data = {
    "a.test": [{"TXT": ["two ", "pieces"]}, {"TXT": "x" * 300}],
    "b.a.test": [{"CNAME": "a.test"}],
    "c.test": [],
}


async def ask(
    server: NameServer, name: str = "a.test", kind: str = "TXT", *, tcp: bool = False, seconds: float = 10
) -> dns.message.Message:
    query = dns.message.make_query(f"{name}.", kind, use_edns=0, payload=1232)
    way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await way(query, *server.address[:1], port=server.port, timeout=seconds)


@pytest.mark.parametrize("tcp", [True, False])
async def test_it_answers_with_records_aliases_and_absences(tcp: bool) -> None:
    async with NameServer(zone=ZONE) as server:
        answer = await ask(server, "b.a.test", tcp=tcp)
        assert [str(one.rdtype.name) for one in answer.answer] == ["CNAME", "TXT"]
        assert [len(record.strings) for record in answer.answer[1]] == [2, 2]
        absent = await ask(server, "d.test", tcp=tcp)
        assert (absent.rcode(), absent.authority[0][0].minimum) == (dns.rcode.NXDOMAIN, 60)
        bare = await ask(server, "c.test", tcp=tcp)
        assert (bare.rcode(), bare.answer, len(bare.authority)) == (dns.rcode.NOERROR, [], 1)
        assert server.counts["b.a.test", "TXT"] == 1
        assert {by for _, _, by in server.asked} == {"tcp" if tcp else "udp"}


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.FORMERR])
async def test_errors_are_said(fault: Fault) -> None:
    async with NameServer(zone={"a.test": [fault]}) as server:
        assert dns.rcode.to_text((await ask(server)).rcode()) == fault


async def test_it_is_silent() -> None:
    async with NameServer(zone={"a.test": ["TIMEOUT"]}) as server:
        with pytest.raises(dns.exception.Timeout):
            await ask(server, seconds=0.2)
        assert len(server.asked) == 1


async def test_it_names_others() -> None:
    async with NameServer(zone={"a.test": ["REFERRAL"]}) as server:
        answer = await ask(server)
        assert (answer.answer, answer.authority[0].rdtype.name) == ([], "NS")


async def test_it_truncates_on_demand_and_when_it_must() -> None:
    zone = {"a.test": [{"TXT": "TRUNCATE"}, {"TXT": "short"}], "long.test": [{"TXT": "x" * 2000}]}
    async with NameServer(zone=zone) as server:
        for name in zone:
            cut = await ask(server, name)
            assert cut.flags & dns.flags.TC
            assert not cut.answer
            assert (await ask(server, name, tcp=True)).answer


@pytest.mark.parametrize("fault", ["WRONG_ID", "WRONG_QUESTION", "WRONG_PORT", "GARBAGE", "BROKEN"])
async def test_it_lies(fault: str) -> None:
    async with NameServer(zone={"a.test": [fault]}) as server:
        with pytest.raises((dns.exception.DNSException, dns.query.BadResponse, dns.query.UnexpectedSource)):
            await ask(server)


def test_the_lies_are_worth_believing() -> None:
    """A lie without a record could not deceive anybody."""
    query = dns.message.make_query("a.test.", "TXT").to_wire()

    async def hear(fault: str) -> bytes:
        async with NameServer(zone={"a.test": [fault]}) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendto(link, query, server.address)
                return await loop.sock_recv(link, 4096)

    for fault in ("WRONG_ID", "WRONG_QUESTION", "WRONG_PORT"):
        said = dns.message.from_wire(asyncio.run(hear(fault)))
        assert str(FORGED["TXT"]) in str(said.answer[0])


async def test_it_waits_for_the_word() -> None:
    async with NameServer(zone={"a.test": [{"TXT": "SLOW"}, {"TXT": "late"}]}) as server:
        asking = asyncio.create_task(ask(server))
        await server.wait_for(1)
        assert not asking.done()
        server.let_go()
        assert (await asking).answer


def test_it_runs_in_a_thread() -> None:
    with in_thread(NameServer(zone=ZONE)) as server, ThreadPoolExecutor() as pool:
        query = dns.message.make_query("a.test.", "TXT", use_edns=0, payload=1232)
        asked = [pool.submit(dns.query.udp, query, server.address[0], port=server.port, timeout=5) for _ in range(20)]
        assert all(one.result().answer for one in asked)
    assert server.counts["a.test", "TXT"] == 20


def test_a_failing_test_still_stops_the_thread() -> None:
    with pytest.raises(ZeroDivisionError), in_thread(NameServer(zone=ZONE)) as server:
        raise ZeroDivisionError
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(server.address)

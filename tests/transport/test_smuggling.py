"""The fifteen ends of data on the wire: one mail or a refusal, never two, however the octets are cut into packets."""

import pytest

from ingester.core.outcome import CODES, Reason
from tests.transport.stubs import running
from tests.transport.test_smtp import STORED
from tests.transport.variants import VARIANTS

REFUSED = CODES[Reason.MALFORMED_TRANSFER].line
SECOND = (
    b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<sales@demo.test>\r\nDATA\r\nSubject: second\r\n\r\nsecond\r\n.\r\nQUIT\r\n"
)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "octets"])
@pytest.mark.parametrize("between", [b"", b"\r\n"], ids=["at once", "next line"])
@pytest.mark.parametrize("name", VARIANTS)
async def test_never_two_mails(name: str, between: bytes, split: bool) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin()
        wire = b"Subject: first\r\n\r\nfirst" + VARIANTS[name] + between + SECOND
        if split:
            await peer.send_split(wire)
        else:
            await peer.send(wire)
        replies = (await peer.rest()).decode().splitlines()
        if name == "CRLF.CRLF NUL":
            assert replies == [STORED, "500 5.5.2 Syntax error"]
            assert [mail.raw for mail in house.pipeline.mails] == [b"Subject: first\r\n\r\nfirst\r\n"]
        else:
            assert replies == [REFUSED]
            assert house.pipeline.mails == []
            assert house.pipeline.reasons == [Reason.MALFORMED_TRANSFER]
            assert house.pipeline.noted[0].mail_from == "s@elsewhere.test"


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "CRLF.CRLF NUL"])
async def test_the_refusal_comes_without_a_true_end(name: str) -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin()
        await peer.send(b"first" + VARIANTS[name])
        assert await peer.reply() == REFUSED


async def test_a_true_end_cut_anywhere_gives_one_mail_and_the_next() -> None:
    wire = b"Subject: x\r\n\r\n..a\r\n.\r\n"
    async with running() as house:
        peer = await house.connect()
        await peer.reply()
        await peer.ask("EHLO a")
        for cut in range(1, len(wire)):
            await peer.announce()
            await peer.send(wire[:cut])
            transfer = next(iter(house.dialogs)).transfer
            assert transfer is not None
            reader = transfer.reader
            await house.until(lambda seen=cut, of=reader: of.seen == seen)  # type: ignore[misc]
            await peer.send(wire[cut:])
            assert await peer.reply() == STORED
        assert {mail.raw for mail in house.pipeline.mails} == {b"Subject: x\r\n\r\n.a\r\n"}

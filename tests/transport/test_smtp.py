"""The dialog: commands, replies, transactions."""

import pytest

from tests.transport.stubs import running


async def test_a_mail_arrives() -> None:
    async with running() as house:
        peer = await house.connect()
        await peer.begin("Support+42@Demo.Test")
        await peer.send(b"Subject: x\r\n\r\n..one\r\ntwo\r\n.\r\n")
        assert await peer.reply() == "250 2.0.0 stored as 00000000-0000-0000-0000-000000000007"
        assert await peer.ask("QUIT") == "221 2.0.0 Bye"
        assert await peer.rest() == b""
        (mail,) = house.pipeline.mails
        assert mail.raw == b"Subject: x\r\n\r\n.one\r\ntwo\r\n"
        assert (mail.mail_from, mail.client.ip, mail.client.helo, mail.client.tls, mail.flags) == (
            "s@elsewhere.test",
            "127.0.0.1",
            "client.test",
            None,
            (),
        )
        assert [str(recipient.address) for recipient in mail.recipients] == ["Support+42@demo.test"]

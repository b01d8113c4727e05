"""Large mails: hashed beside the loop, which goes on meanwhile."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from ingester.auth import arc, dkim
from ingester.auth.report import Arc, Dkim, Result
from tests.auth.signing import DOMAIN, MAIL, NOW, Signer, rsa_signer, zone
from tests.cost import assert_loop_goes_on
from tests.signing import key_record, sealed, signed
from tests.zones import ZoneLookup

MOST_SECONDS_HELD = 0.1


class _Counting(ThreadPoolExecutor):
    calls = 0

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.calls += 1
        return super().submit(*args, **kwargs)


async def judge(raw: bytes, signer: Signer, threads: Executor) -> Dkim:
    return await dkim.verify(ZoneLookup(zone(signer.record())), raw, now=NOW, beside=threads)


async def test_a_large_body_is_hashed_beside_the_loop() -> None:
    signer = rsa_signer()
    with _Counting(1) as threads:
        assert (await judge(signer.sign(MAIL), signer, threads)).result is Result.PASS
        assert threads.calls == 0
        large = signer.sign(MAIL + b"0123456789\r\n" * 100_000)
        assert (await judge(large, signer, threads)).result is Result.PASS
        assert threads.calls == 1
        assert (await judge(large.replace(b"Ann", b"Eve"), signer, threads)).result is Result.FAIL
        assert threads.calls == 1, "what fails without the body is not hashed"


@pytest.mark.parametrize("line", [b"plain words of a  mail \r\n", b" ", b"\r\n"], ids=["text", "blanks", "empty lines"])
async def test_a_mail_of_25_mb_does_not_hold_the_loop(line: bytes) -> None:
    """The design page, law 9: about 25 ms; the bound here is for busy machines. The body is hashed to the end."""
    raw = signed(sealed(MAIL, DOMAIN, "spf=pass"), DOMAIN) + line * (25_000_000 // len(line)) + b"x"
    lookup, now = ZoneLookup(zone(key_record(), name=f"s._domainkey.{DOMAIN}")), datetime.now(UTC)

    async def judge_both() -> tuple[Dkim, Arc, int]:
        with _Counting(1) as threads:
            report = await dkim.verify(lookup, raw, now=now, beside=threads)
            chain = await arc.verify_chain(lookup, raw, now=now, beside=threads)
        return report, chain, threads.calls

    report, chain, calls = await assert_loop_goes_on(judge_both, seconds=MOST_SECONDS_HELD)
    assert report.signatures[0].reason == "the body is not the one that was signed"
    assert str(chain.reason).startswith("the message signature of set 1")
    assert calls == 2

"""rspamd's DMARC mails against its test zone, with SPF and DKIM judged by us: what rspamd expects, or why not.

rspamd takes organizational domains from a list of public suffixes and still reads `pct` (RFC 7489); we walk the tree
(RFC 9989). Where the two differ, `rspamd` says what it expects, and the RFC's section stands beside it. The key of
taugh.com is not in rspamd's zone, which asks the real DNS for it: that mail is judged without its key.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingester.auth import dkim, dmarc, spf
from ingester.auth.report import Dmarc, Result, Spf
from ingester.core.message import digest
from ingester.core.mime import Bounds
from tests.zones import ZoneLookup

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQ"

ZONE: dict[str, list[Any]] = {
    "_dmarc.cacophony.za.org": [("TXT", "v=DMARC1; p=none; sp=reject")],
    "_dmarc.reject.cacophony.za.org": [("TXT", "v=DMARC1; p=reject; rua=mailto:dmarc-reports@rspamd.com")],
    "_dmarc.quarantine.cacophony.za.org": [("TXT", "v=DMARC1; p=quarantine")],
    "_dmarc.my.mom.za.org": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.yo.mom.za.org": [("TXT", "v=DMARC1; p=reject; aspf=s; adkim=s;")],
    "_dmarc.yoni.za.org": [("TXT", "v=DMARC1; p=reject; sp=none;")],
    "_dmarc.yoni.za.net": [("TXT", "v=DMARC1; p=none; sp=quarantine")],
    "_dmarc.zero_pct.com": [("TXT", "v=DMARC1; p=reject; sp=quarantine; pct=0")],
    "_dmarc.rspamd.tk": [("TXT", "bio=a263adeab8acdcdb8b89e127b67d696061fdfbee")],
    "_dmarc.dnssec-failed.org": ["TIMEOUT"],
    "testdkim1._domainkey.dnssec-failed.org": ["TIMEOUT"],
    "www.dnssec-failed.org": ["TIMEOUT"],
    "testdkim1._domainkey.yoni.za.org": [("TXT", "v=DKIM1; k=rsa; p=BARF")],
    "testdkim._domainkey.rspamd.tk": [("TXT", "bio=a263adeab8acdcdb8b89e127b67d696061fdfbee")],
    "testdkim._domainkey.asdf.rspamd.tk": [("TXT", "bio=a263adeab8acdcdb8b89e127b67d696061fdfbee")],
    "testdkim._domainkey.mom.za.org": [
        (
            "TXT",
            f"{_KEY}C3v4VPE1QMHUzsMRbC8VzXNq82mDjiv9Gi1NB/YYC+vIYZT+sE/Uxnr0Clk8C2jgzEr3jcxgQEWZfMtEEg/EfEJvh4SrXWv9c0g"
            "w1EEfxKxX9i+r8yBQtc/EWospWVDkhF2lAvQAK1lV1ZiU7psJ6fh1CI39uZyWdAktZzWLf0zQIDAQAB",
        )
    ],
    "dkim._domainkey.cacophony.za.org": [
        (
            "TXT",
            f"{_KEY}DXtxBE5IiNRMcq2/lc2zErfdCvDFyQNBnMjbOjBQrPST2k4fdGbtpe5Iu5uS01Met+dAEf94XL8I0hwmYw+n70PP834zfJGi2eg"
            "wGqrakpaWsCDPvIJZLkxJCJKQRA/zrQ622uEXdvYixVbsEGVw7U4wAGSmT5rU2eU1y63AlOlQIDAQAB",
        )
    ],
    "dkim._domainkey.rspamd.com": [
        (
            "TXT",
            f"{_KEY}Cd/XhZBEGGAss48lEuMmwZv9lOFf6FTllBiQ3sPhdTpDdIPaW9TInW7iYnYD/bXHeVxYAyD/sKhYk6+qGBRu10rEi+iyPvLCIED"
            "+Boq0tEQosuKuV6Fjoomb+QhZY9KdjyZTjsrFPZ+wCkUY/30uTmpX2SwSqyxxlK0pUIsRgMAQIDAQAB",
        )
    ],
    "dkim._domainkey.highsecure.ru": [
        (
            "TXT",
            f"{_KEY}DK4ZQYky30GH0Ak9OQ1fv3IdFNbpOtpa4S/PR20ZLgPXfd/FCA//ztUmu7kHlELI+/+4f8W+xX0oZlOc/cFxhopRjXZMlSsQqmW"
            "OZ40/GxWFBtcqafKu78FCqO7URqZUmMCM5Jlp4zt/yzH3dbYNG3i5PVlB5QtQnZvY+dvBL3dwIDAQAB",
        )
    ],
    "spf.cacophony.za.org": [("TXT", "v=spf1 ip4:8.8.4.4 -all")],
    "cacophony.za.org": [("TXT", "v=spf1 redirect=asdfsfewewrredfs")],
    "yo.mom.za.org": [("TXT", "v=spf1 ip4:37.48.67.26 -all")],
    "mom.za.org": [("TXT", "v=spf1 ip4:37.48.67.26 -all")],
    "fail1.org.org.za": [("TXT", "v=spf1 redirect=www.dnssec-failed.org")],
    "rspamd.com": [("TXT", "v=spf1 mx -all"), ("MX", [10, "mail.highsecure.ru"])],
    "mail.highsecure.ru": [("A", "88.99.142.95")],
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One scan. `want`: DMARC's result and disposition; `signatures`: DKIM's; `aligned`: what aligns."""

    mail: str
    want: str
    ip: str = ""
    sender: str = ""
    signatures: str = ""
    aligned: str = ""
    rspamd: str = ""
    why: str = ""


MOM = "37.48.67.26"
RUNS = [
    Run(mail="pass_none", want="pass none", signatures="pass", aligned="dkim"),
    Run(mail="fail_none", ip="8.8.4.4", sender="foo@spf.cacophony.za.org", want="pass none", aligned="spf"),
    Run(mail="fail_none", want="fail none"),
    Run(mail="fail_none1", want="none none"),
    Run(mail="fail_reject", want="fail reject"),
    Run(mail="fail_quarantine", want="fail quarantine"),
    Run(mail="subdomain_fail_none", want="fail none"),
    Run(mail="subdomain_fail_reject", want="fail reject"),
    Run(mail="subdomain_fail_quarantine", want="fail quarantine"),
    Run(mail="onsubdomain_fail_alignment", want="fail reject", signatures="pass"),
    Run(
        mail="onsubdomain_pass_relaxed",
        want="fail reject",
        signatures="pass",
        rspamd="pass none",
        why="4.10.2: no record above my.mom.za.org, so it is its own organization, and mom.za.org is another",
    ),
    Run(
        mail="onsubdomain_fail_alignment",
        ip=MOM,
        sender="foo@yo.mom.za.org",
        want="pass none",
        signatures="pass",
        aligned="spf",
    ),
    Run(mail="onsubdomain_fail_alignment", ip=MOM, sender="foo@mom.za.org", want="fail reject", signatures="pass"),
    Run(
        mail="onsubdomain_fail",
        ip=MOM,
        sender="foo@mom.za.org",
        want="fail reject",
        rspamd="pass none",
        why="4.10.2: as above, for SPF",
    ),
    Run(mail="dmarc_tmpfail", ip=MOM, sender="foo@mom.za.org", want="temperror none", signatures="permerror"),
    Run(
        mail="pct_none",
        ip=MOM,
        sender="foo@mom.za.org",
        want="fail reject",
        signatures="permerror",
        rspamd="fail quarantine",
        why="A.6: pct is history",
    ),
    Run(
        mail="pct_none1",
        ip=MOM,
        sender="foo@mom.za.org",
        want="fail quarantine",
        signatures="permerror",
        rspamd="fail none",
        why="A.6: pct is history",
    ),
    Run(mail="bad_dkim1", ip=MOM, want="fail none", signatures="permerror"),
    Run(mail="bad_dkim2", ip=MOM, want="none none", signatures="permerror"),
    Run(mail="bad_dkim3", ip=MOM, want="fail none", signatures="temperror"),
    Run(mail="bad_dkim4", ip="8.8.8.8", sender="a@fail1.org.org.za", want="none none", signatures="permerror"),
    Run(mail="good_dkim_highsecure", want="none none", signatures="pass", aligned="dkim"),
    Run(mail="bad_dkim_highsecure", want="none none", signatures="fail"),
    Run(mail="good_dkim_rspamd", want="none none", signatures="pass", aligned="dkim"),
    Run(mail="bad_dkim_rspamd", want="none none", signatures="fail"),
    Run(mail="no_dkim_valid_spf", ip="88.99.142.95", sender="vsevolod@rspamd.com", want="none none", aligned="spf"),
    Run(mail="ed25519_from", want="none none"),
    Run(mail="dkim_unknown_tags", want="none none", signatures="permerror"),
]


async def judge(run: Run, folder: Path) -> tuple[Dmarc, list[Result]]:
    raw = (folder / f"{run.mail}.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    lookup = ZoneLookup(ZONE)
    own = Spf(result=Result.NONE)
    if run.sender:
        own = await spf.check_mail_from(
            lookup, ip=run.ip, helo="helo.example", mail_from=run.sender, receiver="mx.example", now=NOW
        )
    signatures = await dkim.verify(lookup, raw, now=NOW, beside=None)
    message = digest(raw, Bounds())
    verdict = await dmarc.evaluate(
        lookup, authors=message.authors, from_fields=message.from_fields, spf=own, dkim=signatures
    )
    return verdict, [one.result for one in signatures.signatures]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.mail} {run.ip} {run.sender}".strip())
async def test_run(run: Run, corpora: Path) -> None:
    verdict, signatures = await judge(run, corpora / "dmarc-rspamd" / "dmarc")
    assert f"{verdict.result} {verdict.disposition}" == run.want, verdict.reason
    assert " ".join(signatures) == run.signatures
    assert " ".join(one.method for one in verdict.aligned) == run.aligned
    assert bool(run.rspamd) == bool(run.why)
    assert run.rspamd != run.want


def test_every_mail_is_judged(corpora: Path) -> None:
    mails = {path.stem for path in (corpora / "dmarc-rspamd" / "dmarc").glob("*.eml")}
    assert len(mails) == 25
    assert {run.mail for run in RUNS} == mails

"""The mail clients of the corpus and the domains they send from: header blocks, Message-IDs, bodies, DNS records."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

from tests.bench.compose import Coding, Node, text_leaf
from tests.bench.words import Language

START = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
HEX = "0123456789abcdef"
ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How one client writes: `plain_share` of its mails have no HTML; `{}` in `message_id` is a unique token."""

    name: str
    message_id: str
    boundary: str
    fields: tuple[str, ...]
    style: str
    paragraph: str
    quote: str
    plain_share: float
    plain_params: str
    coding: Coding
    outlook: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A sending domain with its client, selector and records beside DKIM."""

    domain: str
    selector: str
    client: Client
    weight: int
    spf: str
    dmarc: str


def _outlook_style() -> str:
    fonts = "".join(
        f"@font-face\n\t{{font-family:{font};\n\tpanose-1:2 15 5 2 2 2 4 3 2 4;}}\n" for font in ("Calibri", "Aptos")
    )
    return (
        f"<style><!--\n/* Font Definitions */\n{fonts}p.MsoNormal\n\t{{margin:0cm;\n\tfont-size:11.0pt;}}\n--></style>"
    )


GMAIL = Client(
    name="gmail",
    message_id="CA{}@mail.bigmail.example",
    boundary="000000000000{}",
    fields=(),
    style="",
    paragraph='<div dir="ltr">{}</div>\n<div><br></div>',
    quote='<div class="gmail_quote"><blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;'
    'border-left:1px solid rgb(204,204,204);padding-left:1ex">\n{}\n</blockquote></div>',
    plain_share=0.05,
    plain_params="",
    coding=Coding.QUOTED,
)
OUTLOOK = Client(
    name="outlook",
    message_id="{}@AM9PR04MB8273.eurprd04.prod.office.example",
    boundary="_000_{}AM9PR04MB8273_",
    fields=(
        "Thread-Topic: {topic}",
        "Thread-Index: AQHb{token}",
        "Accept-Language: en-US, de-DE",
        "Content-Language: en-US",
        "X-MS-Has-Attach:",
        "X-MS-TNEF-Correlator:",
        "x-ms-publictraffictype: Email",
        "x-ms-traffictypediagnostic: AM9PR04MB8273:EE_|DB9PR04MB9482:EE_",
        "x-ms-office365-filtering-correlation-id: {token}",
        "x-microsoft-antispam: BCL:0;ARA:13230040|376014|366016|1800799024|38070700018;",
        "x-microsoft-antispam-message-info: {token}{token}{token}{token}",
        "x-forefront-antispam-report: CIP:255.255.255.255;CTRY:;LANG:en;SCL:1;SRV:;IPV:NLI;SFV:NSPM;",
        "x-ms-exchange-transport-forked: True",
    ),
    style=_outlook_style(),
    paragraph='<p class="MsoNormal"><span lang="EN-US" style="font-size:11.0pt">{}<o:p></o:p></span></p>',
    quote='<div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm">\n{}\n</div>',
    plain_share=0.05,
    plain_params="",
    coding=Coding.QUOTED,
    outlook=True,
)
APPLE = Client(
    name="apple",
    message_id="{}-4F0C-9C6B@apfel.example",
    boundary="Apple-Mail={}",
    fields=("X-Mailer: Apple Mail (2.3826.400.131.1.6)",),
    style="",
    paragraph="<div>{}</div><div><br></div>",
    quote='<blockquote type="cite"><div>\n{}\n</div></blockquote>',
    plain_share=0.35,
    plain_params="",
    coding=Coding.QUOTED,
)
THUNDERBIRD = Client(
    name="thunderbird",
    message_id="{}@verein.example",
    boundary="------------{}",
    fields=("User-Agent: Mozilla Thunderbird", "Content-Language: de-DE"),
    style="",
    paragraph="<p>{}</p>",
    quote='<blockquote type="cite" cite="mid:quoted">\n{}\n</blockquote>',
    plain_share=0.6,
    plain_params="; format=flowed",
    coding=Coding.EIGHT,
)
MOBILE = Client(
    name="mobile",
    message_id="{}.android@phone-mail.example",
    boundary="----{}",
    fields=("User-Agent: K-9 Mail for Android", "Autocrypt: addr=x; keydata={token}{token}"),
    style="",
    paragraph='<p dir="auto">{}</p>',
    quote='<div class="gmail_quote"><blockquote style="margin:0pt 0pt 0pt 0.8ex">\n{}\n</blockquote></div>',
    plain_share=0.5,
    plain_params="",
    coding=Coding.BASE64,
)
WEBMAIL = Client(
    name="webmail",
    message_id="{}@mail.webpost.example",
    boundary="----=_Part_{}",
    fields=("X-Mailer: WebService/1.1.23040", "X-Priority: 3"),
    style="<style>.ydp{font-family:Helvetica Neue,Helvetica,Arial,sans-serif;}</style>",
    paragraph='<div class="ydp" style="font-size:13px;">{}</div>',
    quote='<div class="yahoo_quoted" style="margin:10px 0px 0px 0.8ex;">\n{}\n</div>',
    plain_share=0.1,
    plain_params="",
    coding=Coding.QUOTED,
)
NETWORK = "203.0.113.0/24"
"""Where all mail comes from, as the driver's PROXY header says: every SPF record permits it."""
PERMITTED = f"ip4:{NETWORK} ip6:2001:db8:25::/48"
SENDERS = (
    Sender(
        domain="bigmail.example",
        selector="20251104",
        client=GMAIL,
        weight=35,
        spf="v=spf1 redirect=_spf.bigmail.example",
        dmarc="v=DMARC1; p=none; sp=quarantine; rua=mailto:dmarc@bigmail.example",
    ),
    Sender(
        domain="office.example",
        selector="selector1",
        client=OUTLOOK,
        weight=25,
        spf="v=spf1 include:_spf.protection.example -all",
        dmarc="v=DMARC1; p=reject; rua=mailto:d@office.example; fo=1",
    ),
    Sender(
        domain="apfel.example",
        selector="1a1hai",
        client=APPLE,
        weight=15,
        spf=f"v=spf1 {PERMITTED} ~all",
        dmarc="v=DMARC1; p=quarantine; adkim=s",
    ),
    Sender(
        domain="verein.example",
        selector="dkim",
        client=THUNDERBIRD,
        weight=10,
        spf=f"v=spf1 {PERMITTED} -all",
        dmarc="v=DMARC1; p=none",
    ),
    Sender(
        domain="phone-mail.example",
        selector="k1",
        client=MOBILE,
        weight=8,
        spf="v=spf1 include:_spf.bigmail.example include:_spf.protection.example ~all",
        dmarc="v=DMARC1; p=quarantine; pct=100",
    ),
    Sender(
        domain="webpost.example",
        selector="s2048",
        client=WEBMAIL,
        weight=7,
        spf=f"v=spf1 {PERMITTED} ?all",
        dmarc="v=DMARC1; p=reject; aspf=s",
    ),
)
SHARED_RECORDS = {
    "_spf.bigmail.example": f"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8:1::/48 {PERMITTED} ~all",
    "_spf.protection.example": f"v=spf1 ip4:198.51.100.0/24 {PERMITTED} -all",
}


def token(rng: random.Random, length: int, alphabet: str = ALNUM) -> str:
    return "".join(rng.choices(alphabet, k=length))


def stamp(moment: datetime) -> str:
    """A Date value in an invariant locale (RFC 5322, 3.3)."""
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{day}, {moment.day} {months[moment.month - 1]} {moment.year} {moment:%H:%M:%S} +0000"


def received(rng: random.Random, sender: Sender, recipient: str, moment: datetime) -> bytes:
    """The trace of two to four hops, newest first (RFC 5321, 4.4)."""
    hops = rng.randint(2, 4)
    lines = [
        f"Received: from mail-{token(rng, 6, HEX)}.{sender.domain} (mail-{hop}.{sender.domain} "
        f"[192.0.2.{rng.randint(1, 250)}])\r\n"
        f"\tby mx{hop}.{sender.domain} (Postfix) with ESMTPS id {token(rng, 11)}\r\n"
        f"\t(version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256)\r\n"
        f"\tfor <{recipient}>; {stamp(moment - timedelta(seconds=hop))}\r\n"
        for hop in range(hops)
    ]
    return "".join(lines).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What somebody wrote: the text leaf, and the HTML leaf where the client sends one."""

    plain: Node
    rich: Node | None

    @property
    def size(self) -> int:
        return len(self.plain.body) + (len(self.rich.body) if self.rich else 0)


def write(
    rng: random.Random, client: Client, language: Language, name: str, *, target: int, moment: datetime, image: str = ""
) -> Written:
    """Text and HTML of about `target` bytes as encoded, with a cited history where there is room.

    `image` is HTML put in front of the history; it makes the mail one with HTML in any case.
    """
    charset = rng.choice(language.charsets)
    coding = _fit(client.coding, charset)
    with_html = bool(image) or rng.random() >= client.plain_share
    phrase = _phraser(client, language, name, stamp(moment), with_html=with_html, image=image)
    paragraphs = [_paragraph(rng, language)]
    written = _encode(client, charset, coding, phrase(paragraphs))
    each = written.size
    while written.size < target:
        missing = 4 * (target - written.size) // (5 * each)
        before = written.size
        paragraphs += [_paragraph(rng, language) for _ in range(max(1, missing))]
        written = _encode(client, charset, coding, phrase(paragraphs))
        each = (written.size - before) // max(1, missing) + 1
    return written


def _fit(coding: Coding, charset: str) -> Coding:
    """Stateful seven-bit charsets travel as they are (RFC 1468); the others as the client likes."""
    return Coding.PLAIN if charset in ("iso-2022-jp", "us-ascii") else coding


def _paragraph(rng: random.Random, language: Language) -> str:
    words = rng.choices(language.words, k=rng.randint(*language.paragraph))
    per_line = 11 if language.joiner == " " else 4
    lines = (language.joiner.join(words[at : at + per_line]) for at in range(0, len(words), per_line))
    return "\n".join(lines) + "." + ("\n... " + words[0] if rng.random() < 0.1 else "")


def _phraser(
    client: Client, language: Language, name: str, date: str, *, with_html: bool, image: str
) -> Callable[[Sequence[str]], tuple[str, str]]:
    hello = language.hello.format(name=name.split()[0])
    wrote = language.wrote.format(date=date, name=name)

    def phrase(paragraphs: Sequence[str]) -> tuple[str, str]:
        own, cited = paragraphs[:2], paragraphs[2:]
        quoted = "\n>\n".join("> " + paragraph.replace("\n", "\n> ") for paragraph in cited)
        text = "\n\n".join([hello, *own, language.bye, *([wrote, quoted] if cited else [])])
        if not with_html:
            return text, ""
        blocks = [client.paragraph.format(escape(piece)) for piece in (hello, *own, language.bye)]
        history = client.quote.format("\n".join(client.paragraph.format(escape(piece)) for piece in (wrote, *cited)))
        rest = "\n".join([*blocks, image, history if cited else ""])
        return text, f"<html><head>{client.style}</head>\n<body>\n{rest}\n</body></html>"

    return phrase


def _encode(client: Client, charset: str, coding: Coding, phrased: tuple[str, str]) -> Written:
    text, html = phrased
    return Written(
        plain=text_leaf(text, subtype="plain", charset=charset, coding=coding, params=client.plain_params),
        rich=text_leaf(html, subtype="html", charset=charset, coding=coding) if html else None,
    )

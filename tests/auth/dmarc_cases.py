"""What RFC 9989 makes of a zone and a mail: the table that `test_dmarc` walks.

Each case names its section, or the test of a public implementation that it re-expresses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

R = "v=DMARC1; p=reject"
Q = "v=DMARC1; p=quarantine"
N = "v=DMARC1; p=none"
DEEP = "a.b.c.d.e.f.g.h.i.j.k.example.com"
ALL = "v=DMARC1; p=reject; sp=quarantine; np=none"
"""Three policies that cannot be mistaken for each other."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """`records`: what `_dmarc` below each domain holds, as text, a list of texts, or a fault. `names` exist besides.

    `want`: result, policy, disposition, organizational domain, domain of the record; `-` for none of them.
    """

    source: str
    author: str
    want: str
    records: dict[str, str | list[str]] = field(default_factory=dict)
    names: Sequence[str] = ()
    faults: dict[str, str] = field(default_factory=dict)
    spf: str = ""
    dkim: Sequence[str] = ()
    aligned: str = ""


CASES = [
    # 4.10: the walk, the organizational domain
    Case(
        source="RFC 9989 4.10.1: the author's own record comes first",
        records={"mail.example.com": N, "example.com": R},
        author="mail.example.com",
        want="fail none none example.com mail.example.com",
    ),
    Case(
        source="mailauth: passes on identical strict alignment (adkim=s)",
        records={"example.com": f"{R}; adkim=s"},
        author="example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="mailauth: passes on relaxed organizational-domain alignment via the org record",
        records={"example.com": R},
        author="mail.example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="mailauth: returns none when no DMARC record exists",
        author="example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="none - none example.com -",
    ),
    Case(
        source="RFC 9989 4.10 step 2: several records are all discarded",
        records={"example.com": [R, N]},
        author="example.com",
        want="none - none example.com -",
    ),
    Case(
        source="mailauth: discards a multi-record set at the author domain and continues the walk",
        records={"mail.example.com": [R, Q], "example.com": f"{N}; sp=quarantine"},
        author="mail.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="mailauth: discards a multi-record set above the author domain and keeps walking",
        records={"b.example.com": [f"{R}; psd=n", N], "example.com": Q},
        author="a.b.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="mailauth: continues to the org domain when the author domain publishes only non-DMARC TXT records",
        records={"mail.example.com": ["some other record", "another"], "example.com": Q},
        author="mail.example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass quarantine none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10 step 2: one policy among other TXT records is one policy",
        records={"example.com": ["spf? no", R]},
        author="example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: records at mail.example.com and example.com, the fewer labels are the organization",
        records={"mail.example.com": R, "example.com": Q},
        author="a.mail.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: psd=n at mail.example.com makes it the organization",
        records={"mail.example.com": f"{R}; psd=n", "example.com": Q},
        author="a.mail.example.com",
        want="fail reject reject mail.example.com mail.example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: psd=y at com alone makes example.com the organization",
        records={"com": f"{R}; psd=y"},
        author="a.mail.example.com",
        want="fail reject reject example.com com",
    ),
    Case(
        source="mailauth: takes the policy of the record with the fewest labels, not an intermediate one",
        records={"b.example.com": N, "example.com": R},
        author="a.b.example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="mailauth: makes the author domain its own org domain when no record is published above it",
        records={"mail.example.com": R},
        author="mail.example.com",
        spf="bounce.example.com",
        dkim=["example.com"],
        want="fail reject reject mail.example.com mail.example.com",
    ),
    Case(
        source="mailauth: lets psd=n on the author record keep a parent from becoming its org domain",
        records={"mail.example.com": f"{R}; psd=n", "example.com": R},
        author="mail.example.com",
        dkim=["example.com"],
        want="fail reject reject mail.example.com mail.example.com",
    ),
    Case(
        source="mailauth: inherits a policy from a name the Public Suffix List lists as a suffix",
        records={"blogspot.com": R},
        author="alice.blogspot.com",
        dkim=["bob.blogspot.com"],
        aligned="dkim:bob.blogspot.com",
        want="pass reject none blogspot.com blogspot.com",
    ),
    Case(
        source="RFC 9989 4.10.2: a record of com without psd=y makes com an organization, as the RFC has it",
        records={"com": R},
        author="example.com",
        want="fail reject reject com com",
    ),
    Case(
        source="RFC 9989 4.10 step 4: a deep author is cut to seven labels",
        records={"example.com": R},
        author=DEEP,
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 5.1.8: psd=n at eight labels is not found from ten",
        records={"example.com": Q, "b.c.d.e.f.g.example.com": f"{R}; psd=n"},
        author="mail.a.b.c.d.e.f.g.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="RFC 9989 5.1.8: but the author's own record always is",
        records={"example.com": Q, "mail.a.b.c.d.e.f.g.example.com": f"{R}; psd=n"},
        author="mail.a.b.c.d.e.f.g.example.com",
        want="fail reject reject mail.a.b.c.d.e.f.g.example.com mail.a.b.c.d.e.f.g.example.com",
    ),
    Case(
        source="mailauth: ignores a trailing root dot on the author domain and identifiers",
        records={"example.com": R},
        author="mail.example.com.",
        dkim=["example.com."],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.4: names compare without regard to case",
        records={"example.com": f"{R}; adkim=s"},
        author="Example.COM",
        dkim=["EXAMPLE.com"],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    # 4.4: alignment
    Case(
        source="RFC 9989 4.4 table 1: foo and news share example.com",
        records={"example.com": R},
        author="news.example.com",
        dkim=["foo.example.com"],
        aligned="dkim:foo.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.4 table 1: example.net shares nothing with example.com",
        records={"example.com": R, "example.net": R},
        author="news.example.com",
        dkim=["foo.example.net"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 adkim: a subdomain does not align strictly",
        records={"example.com": f"{R}; adkim=s"},
        author="example.com",
        dkim=["mail.example.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 aspf: a subdomain does not align strictly",
        records={"example.com": f"{R}; aspf=s"},
        author="example.com",
        spf="mail.example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7: adkim=s leaves SPF relaxed",
        records={"example.com": f"{R}; adkim=s"},
        author="example.com",
        spf="mail.example.com",
        dkim=["mail.example.com"],
        aligned="spf:mail.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7: aspf=s leaves DKIM relaxed",
        records={"example.com": f"{R}; aspf=s"},
        author="example.com",
        spf="mail.example.com",
        dkim=["mail.example.com"],
        aligned="dkim:mail.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="mail-auth: dmarc_verify_alignment, relaxed, both of a subdomain",
        records={"example.org": f"{R}; aspf=r; adkim=r; fo=1; rua=mailto:d@example.org"},
        author="example.org",
        spf="subdomain.example.org",
        dkim=["subdomain.example.org"],
        aligned="spf:subdomain.example.org dkim:subdomain.example.org",
        want="pass reject none example.org example.org",
    ),
    Case(
        source="RFC 9989 4.4.1: any one of several signatures is enough",
        records={"example.com": R},
        author="example.com",
        dkim=["esp.example", "example.com", "other.example"],
        aligned="dkim:example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: a name that merely ends in the same letters is another",
        records={"example.com": R},
        author="example.com",
        dkim=["notexample.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: a subdomain with psd=n is an organization of its own",
        records={"example.com": R, "dept.example.com": f"{R}; psd=n"},
        author="example.com",
        dkim=["dept.example.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2: a record between the two without psd changes nothing",
        records={"example.com": R, "dept.example.com": Q},
        author="example.com",
        dkim=["mail.dept.example.com"],
        aligned="dkim:mail.dept.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 B.4.1: author with a record, signer with one below",
        records={"example.com": R, "signing.example.com": R},
        author="example.com",
        spf="example.com",
        dkim=["signing.example.com"],
        aligned="spf:example.com dkim:signing.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 B.4.2: deep author, the same signers",
        records={"example.com": R, "signing.example.com": R},
        author=DEEP,
        spf="example.com",
        dkim=["signing.example.com"],
        aligned="spf:example.com dkim:signing.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.10.2 without records: who is no one's subdomain aligns with himself only",
        author="example.com",
        spf="bounce.example.com",
        dkim=["mail.example.com"],
        want="none - none example.com -",
    ),
    Case(
        source="RFC 9989 4.10.2 without records: nor does a subdomain align with its parent",
        author="mail.example.com",
        spf="mail.example.com",
        dkim=["example.com"],
        aligned="spf:mail.example.com",
        want="none - none mail.example.com -",
    ),
    # public suffix domains
    Case(
        source="RFC 9989 B.4.3: giant and mega of bank.example",
        records={"bank.example": f"{R}; psd=y; rua=mailto:psd@bank.example", "giant.bank.example": Q},
        author="giant.bank.example",
        spf="mail.giant.bank.example",
        dkim=["mail.mega.bank.example"],
        aligned="spf:mail.giant.bank.example",
        want="pass quarantine none giant.bank.example giant.bank.example",
    ),
    Case(
        source="mail-auth: dmarc_tree_walk_psd, mega does not vouch for giant",
        records={"bank.example": f"{R}; psd=y", "giant.bank.example": R},
        author="giant.bank.example",
        spf="mega.bank.example",
        want="fail reject reject giant.bank.example giant.bank.example",
    ),
    Case(
        source="mail-auth: dmarc_tree_walk_psd, siblings below psd=n",
        records={"mail.example.com": f"{R}; psd=n"},
        author="a.mail.example.com",
        spf="b.mail.example.com",
        aligned="spf:b.mail.example.com",
        want="pass reject none mail.example.com mail.example.com",
    ),
    Case(
        source="RFC 9989 4.10.1 note: the suffix's policy is not used where the organization has one",
        records={"example": f"{R}; psd=y", "foo.example": N},
        author="foo.example",
        want="fail none none foo.example foo.example",
    ),
    Case(
        source="mailauth: applies the PSD policy, with sp, when the org domain publishes no record",
        records={"bank.example": f"{R}; sp=quarantine; psd=y"},
        names=["mail.giant.bank.example"],
        author="mail.giant.bank.example",
        dkim=["giant.bank.example"],
        aligned="dkim:giant.bank.example",
        want="pass quarantine none giant.bank.example bank.example",
    ),
    Case(
        source="mailauth: does not align two registrants below the same PSD",
        records={"bank.example": f"{R}; psd=y"},
        author="giant.bank.example",
        spf="bank.example",
        dkim=["mega.bank.example"],
        want="fail reject reject giant.bank.example bank.example",
    ),
    Case(
        source="mailauth: treats a PSD sending as itself as its own org domain",
        records={"bank.example": f"{R}; sp=none; psd=y"},
        author="bank.example",
        spf="mail.bank.example",
        want="fail reject reject bank.example bank.example",
    ),
    Case(
        source="mailauth: applies a PSD np to a non-existent registration below it (.gov style)",
        records={"gov.example": "v=DMARC1; p=none; sp=none; np=reject; psd=y"},
        author="fake-agency.gov.example",
        want="fail reject reject fake-agency.gov.example gov.example",
    ),
    Case(
        source="RFC 9989 4.7 psd: u and rubbish are the default",
        records={"mail.example.com": f"{N}; psd=u", "example.com": f"{R}; psd=perhaps", "com": f"{R}; psd=Y"},
        author="x.mail.example.com",
        want="fail reject reject example.com example.com",
    ),
    # which of the policies
    Case(
        source="mail-auth: dmarc_policy_discovery, p for the domain itself",
        records={"example.org": ALL},
        author="example.org",
        want="fail reject reject example.org example.org",
    ),
    Case(
        source="mail-auth: dmarc_policy_discovery, sp for a subdomain that exists",
        records={"example.org": ALL},
        names=["sub.example.org"],
        author="sub.example.org",
        want="fail quarantine quarantine example.org example.org",
    ),
    Case(
        source="mail-auth: dmarc_policy_discovery, np for one that does not",
        records={"example.org": ALL},
        author="ghost.example.org",
        want="fail none none example.org example.org",
    ),
    Case(
        source="RFC 9989 3.2.13: a name with other records only (NODATA) exists",
        records={"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"},
        names=["below.sub.example.com"],
        author="sub.example.com",
        want="fail none none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 np: without it sp is for those that do not exist, too",
        records={"example.com": f"{R}; sp=none"},
        author="ghost.example.com",
        want="fail none none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 np: without sp, p",
        records={"example.com": Q},
        author="ghost.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="mailauth: falls back to p for a subdomain that exists without sp",
        records={"example.com": f"{Q}; np=reject"},
        names=["sub.example.com"],
        author="sub.example.com",
        want="fail quarantine quarantine example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 sp: it is ignored in the author's own record",
        records={"sub.example.com": f"{N}; sp=reject", "example.com": R},
        author="sub.example.com",
        want="fail none none example.com sub.example.com",
    ),
    # test mode
    Case(
        source="RFC 9989 4.7 t: reject in test mode asks for quarantine",
        records={"example.com": f"{R}; t=y"},
        author="example.com",
        want="fail reject quarantine example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 t: quarantine in test mode asks for nothing",
        records={"example.com": f"{Q}; t=Y"},
        author="example.com",
        want="fail quarantine none example.com example.com",
    ),
    Case(
        source="RFC 9989 4.7 t: it has no effect on none",
        records={"example.com": f"{N}; t=y"},
        author="example.com",
        want="fail none none example.com example.com",
    ),
    Case(
        source="mailauth: t=y keeps the published p and sp",
        records={"example.com": f"{R}; sp=quarantine; t=y"},
        author="sub.example.com",
        want="fail quarantine none example.com example.com",
    ),
    Case(
        source="mailauth: t=n and an invalid t value apply the policy as published",
        records={"example.com": f"{R}; t=yes"},
        author="example.com",
        want="fail reject reject example.com example.com",
    ),
    # syntax
    Case(
        source="RFC 9989 A.6: pct=0 is history and changes nothing",
        records={"example.com": f"{R}; pct=0"},
        author="example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.8: unknown tags are ignored",
        records={"example.com": "v=DMARC1; foo=bar; p=reject; x-y=z; ri=86400"},
        author="example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.8: p need not stand second",
        records={"example.com": "v=DMARC1;adkim=s;rua=mailto:a@b.example;p=reject;;"},
        author="example.com",
        dkim=["x.example.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="mailauth: treats a record with no p but a valid rua as p=none and continues processing",
        records={"example.com": "v=DMARC1; rua=mailto:dmarc@example.com"},
        author="example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass none none example.com example.com",
    ),
    Case(
        source="mailauth: applies no DMARC processing for a record with no p and no rua",
        records={"example.com": "v=DMARC1; adkim=s"},
        author="example.com",
        want="permerror - none example.com example.com",
    ),
    Case(
        source="mailauth: does not continue the walk past an author record without a valid policy",
        records={"mail.example.com": "v=DMARC1; adkim=s", "example.com": R},
        author="mail.example.com",
        want="permerror - none example.com mail.example.com",
    ),
    Case(
        source="mailauth: treats an invalid p with a valid rua as p=none, keeping other tags",
        records={"example.com": "v=DMARC1; p=block; adkim=s; rua=mailto:dmarc@example.com!10m"},
        author="example.com",
        dkim=["mail.example.com"],
        want="fail none none example.com example.com",
    ),
    Case(
        source="mail-auth: dmarc_policy_discovery, without p even a valid sp is not applied",
        records={"example.org": "v=DMARC1; sp=reject; np=reject; rua=mailto:d@example.org"},
        author="sub.example.org",
        want="fail none none example.org example.org",
    ),
    Case(
        source="mailauth: treats a valid p with an invalid sp as p=none when rua is valid",
        records={"example.com": "v=DMARC1; p=reject; sp=bounce; rua=mailto:dmarc@example.com"},
        author="sub.example.com",
        want="fail none none example.com example.com",
    ),
    Case(
        source="mailauth: treats a valid p with an invalid np as p=none when rua is valid",
        records={"example.com": "v=DMARC1; p=reject; np=; rua=mailto:dmarc@example.com"},
        author="example.com",
        want="fail none none example.com example.com",
    ),
    *(
        Case(
            source=f"mailauth: applies no DMARC processing when rua has no syntactically valid URI ({rua})",
            records={"example.com": f"v=DMARC1; p=reject; sp=nope; {rua}"},
            author="example.com",
            want="permerror - none example.com example.com",
        )
        for rua in ("rua=dmarc@example.com", "rua=", "rua=mailto:", "rua=,,")
    ),
    Case(
        source="RFC 9989 4.6: rua is a list, one good URI is enough",
        records={"example.com": "v=DMARC1; p=oops; rua=nothing , https://r.example/x"},
        author="example.com",
        want="fail none none example.com example.com",
    ),
    *(
        Case(
            source=f"RFC 9989 4.7 v: {text!r} is no policy record",
            records={"example.com": text},
            author="example.com",
            want="none - none example.com -",
        )
        for text in ("v=dmarc1; p=reject", "v=DMARC1x; p=reject", "p=reject; v=DMARC1", "v=DMARC1 p=reject", "", "v=")
    ),
    *(
        Case(
            source=f"RFC 9989 4.8: {text!r} is one",
            records={"example.com": text},
            author="example.com",
            want="fail reject reject example.com example.com",
        )
        for text in ("v = DMARC1; p=reject", "v=DMARC1 ;P = Reject ;", "V=DMARC1\t;\tp\t=\treject", "v=DMARC1;p=reject")
    ),
    Case(
        source="mailauth: enforces strict alignment when adkim is upper-case (adkim=S)",
        records={"example.com": f"{R}; adkim=S"},
        author="mail.example.com",
        dkim=["example.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 6376 3.2, which 4.7 refers to: a tag stands once; the first counts",
        records={"example.com": "v=DMARC1; p=reject; p=none"},
        author="example.com",
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="RFC 9989 4.8: a value that is not printable is ignored",
        records={"example.com": "v=DMARC1; p=reject; adkim=\x01s"},
        author="example.com",
        dkim=["mail.example.com"],
        aligned="dkim:mail.example.com",
        want="pass reject none example.com example.com",
    ),
    # 5.3.1: the author domain
    Case(
        source="mail-auth: dmarc_verify_alignment, author as U-label",
        records={"xn--eebajf.xn--9dbq2a": f"{R}; adkim=s"},
        author="\u05de\u05d9\u05d9\u05dc.\u05e7\u05d5\u05dd",
        dkim=["xn--eebajf.xn--9dbq2a"],
        aligned="dkim:xn--eebajf.xn--9dbq2a",
        want="pass reject none xn--eebajf.xn--9dbq2a xn--eebajf.xn--9dbq2a",
    ),
    Case(
        source="mail-auth: dmarc_verify_alignment, identifier as U-label",
        records={"xn--eebajf.xn--9dbq2a": f"{R}; adkim=s"},
        author="xn--eebajf.xn--9dbq2a",
        dkim=["\u05de\u05d9\u05d9\u05dc.\u05e7\u05d5\u05dd"],
        aligned="dkim:xn--eebajf.xn--9dbq2a",
        want="pass reject none xn--eebajf.xn--9dbq2a xn--eebajf.xn--9dbq2a",
    ),
    Case(
        source="RFC 9989 5.3.1: an A-label that IDNA 2008 forbids (an emoji) is a name all the same",
        records={"xn--i-7iq.example": R},
        author="xn--i-7iq.example",
        want="fail reject reject xn--i-7iq.example xn--i-7iq.example",
    ),
    Case(
        source="RFC 9989 5.3.1: an address literal holds no domain",
        author="[192.0.2.1]",
        want="none - none - -",
    ),
    # 5.3.6: DNS errors
    Case(
        source="mailauth: returns temperror when the policy can not be discovered",
        faults={"_dmarc.example.com": "SERVFAIL"},
        author="mail.example.com",
        dkim=["example.com"],
        want="temperror - none - -",
    ),
    Case(
        source="mailauth: keeps the author record when the walk above it fails and an identical identifier aligns",
        records={"example.com": R},
        faults={"_dmarc.com": "TIMEOUT"},
        author="example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass reject none - example.com",
    ),
    Case(
        source="mailauth: temperror when the walk above the author fails and only a differing identifier could align",
        records={"example.com": R},
        faults={"_dmarc.com": "TIMEOUT"},
        author="example.com",
        dkim=["mail.example.com"],
        want="temperror reject none - example.com",
    ),
    Case(
        source="RFC 9989 5.3.6: what cannot align is no reason to wait",
        records={"example.com": R},
        faults={"_dmarc.com": "TIMEOUT"},
        author="example.com",
        dkim=["example.org"],
        want="fail reject reject - example.com",
    ),
    Case(
        source="mailauth: returns temperror when an identifier walk fails and nothing else aligns",
        records={"example.com": R},
        faults={"_dmarc.mail.example.com": "TIMEOUT"},
        author="example.com",
        dkim=["mail.example.com"],
        want="temperror reject none example.com example.com",
    ),
    Case(
        source="mailauth: passes when an identifier walk fails but another identifier aligns",
        records={"example.com": R},
        faults={"_dmarc.mail.example.com": "TIMEOUT"},
        author="example.com",
        spf="bounces.example.com",
        dkim=["mail.example.com"],
        aligned="spf:bounces.example.com",
        want="pass reject none example.com example.com",
    ),
    Case(
        source="mailauth: does not turn a strict alignment failure into a temperror",
        records={"example.com": f"{R}; adkim=s"},
        faults={"_dmarc.mail.example.com": "TIMEOUT"},
        author="example.com",
        dkim=["mail.example.com"],
        want="fail reject reject example.com example.com",
    ),
    Case(
        source="mailauth: returns temperror when the existence query fails",
        records={"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"},
        faults={"sub.example.com": "SERVFAIL"},
        author="sub.example.com",
        want="temperror - none example.com example.com",
    ),
    Case(
        source="RFC 9989 5.3.5: but a pass needs no policy",
        records={"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"},
        faults={"sub.example.com": "SERVFAIL"},
        author="sub.example.com",
        dkim=["example.com"],
        aligned="dkim:example.com",
        want="pass - none example.com example.com",
    ),
    Case(
        source="RFC 9989 5.3.6: an answer that cannot be read is the records' permanent fault",
        faults={"_dmarc.example.com": "BROKEN"},
        author="example.com",
        want="permerror - none - -",
    ),
    Case(
        source="RFC 9989 4.10: the name of a long domain's policy cannot exist, so it has none",
        records={"example.com": R},
        author=f"{'.'.join(['a' * 60] * 3)}.{'b' * 55}.example.com",
        want="fail reject reject example.com example.com",
    ),
]

"""DMARC policy records (RFC 9989, 4.7 and 4.8) and what a walk up the DNS tree makes of them (4.10). Pure.

`dmarc` asks DNS and judges the mail. Nothing here knows of a mail, and nothing raises, whatever an owner publishes.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ingester.auth.lookup import Status
from ingester.auth.report import Policy

RECORD_LIMIT = 4096
"""Bytes of a record that are read: no owner needs more, and what a stranger publishes is remembered here."""
WALK_LIMIT = 8
"""Queries of one walk (RFC 9989, 4.10)."""

_VERSION = re.compile(rb"[ \t]*[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
"""Only the value is case-sensitive. Blanks before the tag are DKIM's tag-list syntax, which 4.7 refers to: the owner
who left one there wants to be protected."""
_URI = re.compile(r"(?i:(?!mailto:)[a-z][a-z0-9+.-]*:\S+|mailto:[^\s@]+@[^\s@]+)")
_SIZE = re.compile(r"![0-9]+[kmgtKMGT]?\Z")
_VALUE = re.compile(rb"[ -~\t]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One policy record, defaults filled in. `usable` is false where 4.10.1 forbids to apply it."""

    text: str
    usable: bool
    policy: Policy
    subdomains: Policy
    """`sp`, else `p`."""
    missing_subdomains: Policy
    """`np`, else `sp`, else `p`: for a From domain that does not exist."""
    strict_dkim: bool
    strict_spf: bool
    testing: bool
    suffix: bool | None
    """`psd`: yes, no, or None for the default `u`."""


class Walk(NamedTuple):
    """The records on the way from `start` to the root, the nearest first, up to the first that says `psd=y` or `n`.

    `trouble` ends it early: `at` did not answer, or with what cannot be read.
    """

    start: str
    found: tuple[tuple[str, Record], ...]
    trouble: Status | None = None
    at: str = ""

    def record_of(self, domain: str) -> Record | None:
        """The record published at this very name."""
        return next((record for name, record in self.found if name == domain), None)

    @property
    def suffix(self) -> str | None:
        """The public suffix domain above the start, where one says so (`psd=y`)."""
        name, record = self.found[-1] if self.found else (self.start, None)
        return name if record and record.suffix and name != self.start else None

    @property
    def organization(self) -> str | None:
        """The organizational domain (RFC 9989, 4.10.2), or None where trouble hides it.

        A record that says `psd` ends the walk: no trouble came before it, and none lies above what counts.
        """
        if self.trouble is not None:
            return None
        if self.suffix is not None:
            labels = self.suffix.count(".") + 2
            return ".".join(self.start.split(".")[-labels:])
        return self.found[-1][0] if self.found else self.start


def names_to_walk(domain: str) -> tuple[str, ...]:
    """The domains whose `_dmarc` name is asked, in order: at most eight (RFC 9989, 4.10, steps 3 to 7)."""
    labels = domain.split(".")
    first_parent = max(1, len(labels) - (WALK_LIMIT - 1))
    return (domain, *[".".join(labels[cut:]) for cut in range(first_parent, len(labels))])


def select(texts: tuple[bytes, ...]) -> Record | None:
    """The one policy record among the TXT records of a name: several are as good as none (RFC 9989, 4.10, step 2)."""
    policies = [text for text in texts if _VERSION.match(text)]
    return parse(policies[0][: RECORD_LIMIT + 1]) if len(policies) == 1 else None


@lru_cache(maxsize=1024)
def parse(raw: bytes) -> Record:
    """Read a record that begins with its version. Unknown tags and faulty values are passed over (RFC 9989, 4.8)."""
    if len(raw) > RECORD_LIMIT:
        raw = raw[:RECORD_LIMIT].rpartition(b";")[0]
    tags = _tags(raw)
    words = {name: tags.get(name, "").lower() for name in ("adkim", "aspf", "t", "psd")}
    policies = {name: _policy(tags[name]) for name in ("p", "sp", "np") if name in tags}
    sound = policies.get("p") is not None and None not in policies.values()
    p = policies.get("p") if sound else Policy.NONE
    sp = policies.get("sp") if sound else None
    np = policies.get("np") if sound else None
    policy = p or Policy.NONE
    return Record(
        text="".join(c for c in raw.decode("ascii", "replace") if c.isprintable())[:256],
        usable=sound or _has_report_address(tags.get("rua", "")),
        policy=policy,
        subdomains=sp or policy,
        missing_subdomains=np or sp or policy,
        strict_dkim=words["adkim"] == "s",
        strict_spf=words["aspf"] == "s",
        testing=words["t"] == "y",
        suffix={"y": True, "n": False}.get(words["psd"]),
    )


def soften(policy: Policy) -> Policy:
    """What a record in test mode (`t=y`) asks for: one step less (RFC 9989, 4.7)."""
    return Policy.QUARANTINE if policy is Policy.REJECT else Policy.NONE


def _tags(raw: bytes) -> dict[str, str]:
    """Names in lower case and values, the first of each name: what is repeated or unreadable is passed over."""
    tags: dict[str, str] = {}
    for part in raw.split(b";"):
        name, equals, value = part.partition(b"=")
        name, value = name.strip().lower(), value.strip()
        if equals and name.isalpha() and _VALUE.fullmatch(value):
            tags.setdefault(name.decode("ascii"), value.decode("ascii"))
    return tags


def _policy(value: str) -> Policy | None:
    try:
        return Policy(value.lower())
    except ValueError:
        return None


def _has_report_address(value: str) -> bool:
    """Whether `rua` holds one well-formed URI (RFC 9989, 4.10.1). A size (`!10m`) is obsolete and does no harm."""
    return any(_URI.fullmatch(_SIZE.sub("", uri.strip())) for uri in value.split(","))

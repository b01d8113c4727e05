"""CloudMailin: the format `Raw`, a form of `message` and the SMTP envelope, field by field.

It signs nothing: a password in the URL that is its target tells who it is.
"""

from typing import Final

from ingester.transport.forms import Form
from ingester.transport.providers.values import fault, helo, ip, path, said, text
from ingester.transport.submission import Assertion, Submission
from ingester.web.problem import Problem

NAME: Final = "cloudmailin"
_RAW: Final = "message"
_RAW_MISSING: Final = "The raw mail is missing: the format of the address in CloudMailin must be Raw."
_TO: Final = "envelope[to]"
_RECIPIENTS: Final = "envelope[recipients]["
_FROM: Final = "envelope[from]"
_HELO: Final = "envelope[helo_domain]"
_IP: Final = "envelope[remote_ip]"
_SPF: Final = ("envelope[spf][result]", "envelope[spf][domain]")
_EVIDENCE: Final = (_TO, _FROM, _HELO, _IP, "envelope[tls]", *_SPF)
_OWN_DOMAIN: Final = "cloudmailin.net"


def is_like(form: Form) -> bool:
    """Whether the fields are CloudMailin's."""
    return any(name.startswith("envelope[") for name in form.fields)


def read(form: Form) -> Submission | Problem:
    """The mail in a form of CloudMailin's, which gives events no id."""
    problem = fault(form, raw=_RAW, raw_missing=_RAW_MISSING, needed=(_TO,), optional=(_FROM, _HELO, _IP, *_SPF))
    if problem is not None:
        return problem
    sender = form.first(_FROM)
    return Submission(
        raw=form.first(_RAW) or b"",
        provider=NAME,
        recipients=_recipients(form),
        asserted=Assertion(
            mail_from=None if sender is None else path(text(sender)),
            client_ip=ip(text(form.first(_IP) or b"")),
            helo=helo(text(form.first(_HELO) or b"")),
        ),
        metadata=said(form, _EVIDENCE),
    )


def _recipients(form: Form) -> tuple[str, ...]:
    """All recipients of the transaction, else the first. A mail forwarded to an address of CloudMailin's own tells its
    recipient in its header only.
    """
    listed = [value for name, values in form.fields.items() if name.startswith(_RECIPIENTS) for value in values]
    addresses = dict.fromkeys(path(text(value)) for value in listed or form.fields[_TO])
    return tuple(address for address in addresses if address and not _is_own(address))


def _is_own(address: str) -> bool:
    domain = address.rpartition("@")[2].lower()
    return domain == _OWN_DOMAIN or domain.endswith(f".{_OWN_DOMAIN}")

"""What a bounce or a complaint makes of the message that it is about, and whose word counts. Pure."""

from ingester.core.kind import Kind, Verdict
from ingester.core.report import DeliveryStatus, Report
from ingester.core.resolve import Attachment, Method

BOUNCED = "bounced"
COMPLAINED = "complained"

_TOKENS = (Method.TOKEN_RECIPIENT, Method.TOKEN_HEADER, Method.TOKEN_REFERENCE)


def status_of_answered(verdict: Verdict, report: Report | None, attachment: Attachment, *, vouched: bool) -> str | None:
    """The new status of the message that a mail is about, or None.

    Anybody can write a bounce. It counts with a reply token, which only who had the message can know, or where the
    reporter is known (`vouched`: DKIM aligns, or a provider's own door handed it in).
    """
    if not attachment.ours or not (vouched or attachment.method in _TOKENS):
        return None
    if verdict.kind is Kind.COMPLAINT:
        return COMPLAINED
    if verdict.kind is Kind.BOUNCE and _for_good(report):
        return BOUNCED
    return None


def _for_good(report: Report | None) -> bool:
    """Whether a recipient was given up (RFC 3464, 2.3.3); a bounce in mere words says so by itself."""
    if not isinstance(report, DeliveryStatus) or not report.recipients:
        return True
    return any(one.action == "failed" for one in report.recipients)

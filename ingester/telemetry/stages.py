"""The stages of a mail's journey, by the names under which they are timed. No clock and no registry here."""

from enum import StrEnum


class Stage(StrEnum):
    """Where the time of a mail goes. What is done for several mails at once counts once for all of them."""

    READ = "read"
    """From the reply to DATA to the final dot, or a request's body: the client's pace."""
    DNS = "dns"
    """Waiting for name servers, all questions of one mail together; a part of `auth`."""
    AUTH = "auth"
    """SPF, DKIM, ARC and DMARC of one mail."""
    PARSE = "parse"
    """The hash, the MIME walk and the texts of one mail."""
    SPAM = "spam"
    """Waiting for the spam filter."""
    QUEUE = "queue"
    """Waiting for a place in a commit."""
    FIND = "find"
    """The one read of a batch."""
    UPLOAD = "upload"
    """The raw bytes of a batch on their way to the object store, or into a segment."""
    COMMIT = "commit"
    """The transaction of a batch: the writes and the COMMIT."""

"""Where our reading of a mail of the corpora differs from an oracle's: the mail, the aspect, and why ours stays.

An entry that no longer differs fails the tests, as does a difference without an entry. Paths are those of the corpora;
a mail of mime-stalwart stands for itself with LF and with CRLF.
"""

Differences = dict[tuple[str, str], str]

_OUTER = (
    "The outer boundary line stands within an unclosed inner multipart and ends it (RFC 2046, 5.1.2): three parts; "
    "Stalwart looks for the inner one's lines only and keeps the third part, with its header, as text of the second."
)
_TWO_TYPES = (
    "The boundary line between the header of the multipart and that of its first part is lost: we read that part and "
    "the HTML beside it; Stalwart takes the second Content-Type for the whole and gives both, boundary lines and all, "
    "as one text."
)
_UNCLOSED = (
    "The mail ends without its last boundary: we show the text of the last part; Stalwart counts what it closes at the "
    "end of the mail as an attachment."
)

STALWART: Differences = {
    ("malformed/000", "parts"): "Four parts of a header and nothing else: empty leaves for us, none for Stalwart.",
    ("malformed/001", "parts"): (
        "`--a` stands after the outer boundary has ended the multipart `a` which had no part: text for us (RFC 2046, "
        "5.1.2); Stalwart reads the outer line as one of `a` and drops this one. Neither part has other content."
    ),
    ("malformed/002", "bodies"): "A multipart without a single boundary line is shown as text, not hidden.",
    ("malformed/003", "bodies"): _UNCLOSED,
    ("malformed/004", "bodies"): _UNCLOSED,
    ("malformed/006", "bodies"): _UNCLOSED,
    ("malformed/007", "parts"): "Stalwart adds an empty part, for which the mail has no header, after the inner end.",
    ("malformed/008", "bodies"): _UNCLOSED,
    ("malformed/009", "parts"): _OUTER,
    ("malformed/011", "parts"): _OUTER,
    ("malformed/012", "parts"): _OUTER,
    ("malformed/016", "bodies"): _UNCLOSED,
    ("malformed/017", "names"): "A disposition of nothing but a filename (`; filename=`): we read the name.",
    ("malformed/019", "parts"): (
        "Parts that begin with words instead of a header: text for us; Stalwart takes them for header lines and loses "
        "them. A stray byte in US-ASCII is windows-1252 for us, U+FFFD for Stalwart."
    ),
    ("malformed/020", "parts"): _TWO_TYPES,
    ("malformed/021", "parts"): _TWO_TYPES,
    ("rfc/004", "types"): "The JSON leaves out the default type of a digest's parts, message/rfc822 (RFC 2046, 5.1.5).",
}

_ENMIME = "mime-enmime/testdata"
_RUBY = "mime-rubymail/fixtures/emails"
_JUNK = "A line that is no field stands between two header fields: we pass it over, the library ends the header there."
_NO_SEMICOLON = "No semicolon before the name: we read type and name apart, the library takes all for the type."

LIBRARY: Differences = {
    (f"{_RUBY}/plain_emails/raw_email_bad_time.eml", "date"): "The year is 3609: no date for us.",
    (f"{_RUBY}/plain_emails/raw_email_incorrect_header.eml", "parts"): _JUNK,
    (f"{_RUBY}/plain_emails/raw_email_incorrect_header.eml", "subject"): _JUNK,
    (f"{_RUBY}/plain_emails/raw_email_incorrect_header.eml", "addresses"): _JUNK,
    (f"{_RUBY}/plain_emails/raw_email_with_at_display_name.eml", "addresses"): (
        "`Mikel@Lindsaar <…>` is one mailbox, whose name looks like an address; the library makes two of it."
    ),
    (f"{_RUBY}/rfc2822/example13.eml", "addresses"): (
        "Blanks between the names of the fields and their colons (RFC 5322, 4.5): the library reads no field in them."
    ),
    (f"{_RUBY}/rfc2822/example13.eml", "parts"): _JUNK,
    (f"{_RUBY}/rfc2822/example13.eml", "subject"): _JUNK,
    ("mime-cpython/msg_38.txt", "parts"): (
        "Text that holds the outer boundaries' lines, against RFC 2046, 5.1: we cut there, and find all the parts that "
        "follow; the library holds to the inner boundary and gives five parts as one text."
    ),
    ("mime-nodemailer/fixtures/nodemailer.eml", "subject"): (
        "The blank between an encoded-word and plain text stays (RFC 2047, 6.2); the library drops it before a bracket."
    ),
    ("mime-zbateson/emails/m2011.txt", "parts"): "BinHex (RFC 1741) is decoded by us; the library gives its text.",
    (f"{_ENMIME}/low-quality/bad-header-wrap.raw", "parts"): (
        "A header line wrapped without a blank: we pass it over; the library ends the header and decodes the rest."
    ),
    (f"{_ENMIME}/mail/mime-bad-content-transfer-encoding.raw", "parts"): (
        "Words that are called base64: shown as they stand by us and by the library, which takes out the line ends."
    ),
    (f"{_ENMIME}/mail/mime-bad-content-type.raw", "types"): _NO_SEMICOLON,
    (f"{_ENMIME}/mail/mime-blank-media-name.raw", "types"): _NO_SEMICOLON,
    (
        f"{_ENMIME}/parts/badboundary.raw",
        "parts",
    ): "After a last boundary that opens: a line end for us, nothing for it.",
    (f"{_ENMIME}/parts/extra-base64-character.raw", "parts"): (
        "One base64 character too many: we decode all the others, the library gives the base64 text."
    ),
}

BY_VERSION = {(f"{_RUBY}/plain_emails/raw_email_with_at_display_name.eml", "addresses")}
"""Entries of LIBRARY that only newer Pythons show: the library of 3.11.2 reads these as we do."""

ZBATESON: Differences = {
    ("m0022.txt", "aaa.txt"): (
        "The file's last line end was not sent: the one in the mail belongs to the boundary line (RFC 2046, 5.1.1)."
    ),
    ("m2011.txt", "HasenundFrösche.txt"): (
        "The BinHex data fork, its checksum right, has the line ends of a Macintosh (CR); the file was saved with CRLF."
    ),
    ("m3004.txt", "HasenundFrösche.txt"): "The sender doubled the CR of every line before the base64 encoding.",
    ("m4009.txt", "test10Mb.db"): "Four bytes made for that corpus' test of streams; there is no file of them.",
}

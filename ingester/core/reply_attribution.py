# ruff: noqa: RUF001  (the letters of other scripts are meant)
"""Whether a text is an attribution: 'On Mon, May 3, 2021 at 3:14 PM Anna <anna@a.test> wrote:' in the usual languages.

Judged by what it is made of, not by one pattern per client: a date, a clock time, an address, a verb, names; and no
other words, for these would be prose.
"""

import re

from ingester.core.reply_words import CALENDAR, DAY_SHORT, DAY_STEMS, PARTICLES, VERB, YOU

_MAX = 600
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)|(?<!\d)\d{1,2}[./-]\d{1,2}[./-]\d\d(?!\d)|\d[年년]")
_TIME = re.compile(r"(?<!\d)\d{1,2} ?(?:[:h時时시点點]|：) ?\d\d|(?<!\d)\d{1,2}[.]\d\d(?![\d.])")
_ADDRESS = re.compile(
    r"[(<\[]*(?:mailto:)?[^\s<>()\[\]\"',;:]{1,100}@[^\s<>()\[\]\"',;:]{1,200}(?:[<|(]mailto:[^\s<>()]{1,300})?[>)\]]*"
)
_WORD = re.compile(r"[^\W\d_][\w.'’-]{0,60}")
_BEFORE_DATE = re.compile(r"[^\d]{0,80}")
_VERB_FIRST = re.compile(r"[<(]|[于於的님]")


def introduces(text: str) -> bool:
    """Whether this stands before a quotation for sure: date, verb and time or address; or date, time and address."""
    if len(text) > _MAX:
        return False
    low = text.casefold()
    if not _YEAR.search(low) or _VERB_FIRST.match(low):
        return False
    verb = VERB.search(low)
    time = _TIME.search(low)
    address = _ADDRESS.search(low) if "@" in low else None
    if not (verb and (time or address)) and not (time and address):
        return False
    if verb and verb.start() == 0 and not verb.group().startswith("nap"):
        return False  # its beginning stands on the line before
    if not verb and low[address.end() if address else 0 :].strip(" >)]\"'»:：、") not in ("", "님"):
        return False
    return _opens(text) and _odd_words(text) <= (1 if address else 0)


def introduces_marked(text: str) -> bool:
    """Whether this stands before lines that are marked as quoted: less is asked, the marks bear witness."""
    if len(text) > _MAX:
        return False
    low = text.casefold()
    verb, address, odd = VERB.search(low), _ADDRESS.search(low) if "@" in low else None, _odd_words(text)
    if _VERB_FIRST.match(low) or (verb and verb.start() == 0):
        return False
    if _YEAR.search(low) and (verb or address or _TIME.search(low)):
        return odd <= 3
    if verb and (address or any(char.isdigit() for char in low)):
        return odd <= 2
    words = _WORD.findall(VERB.sub(" ", low))
    return bool(verb or address) and (odd == 0 or all(word in YOU for word in words)) and len(words) <= 8


def _opens(text: str) -> bool:
    """Before the date stand calendar words only ('On Mon,', 'Il giorno lun'), or the sender with address or verb."""
    head = _BEFORE_DATE.match(text)
    before = head.group() if head else ""
    low = before.casefold()
    if VERB.search(low) or "@" in low or "<" in low:
        return True
    return all(_is_calendar(word) for word in _WORD.findall(low))


def _is_calendar(word: str) -> bool:
    word = word.strip(".'’-")
    return (
        word in CALENDAR
        or word in DAY_SHORT
        or word[:3] in DAY_STEMS
        or (not word.isascii() and len(word) == 1)
        or word > "\u2e80"
    )


def _odd_words(text: str) -> int:
    """Words that are neither name nor calendar: a name begins with a capital, or its script has none."""
    odd = 0
    prose = _ADDRESS.sub(" ", text) if "@" in text else text
    for piece in VERB.sub("\0", prose).split("\0"):
        head = True
        for word in _WORD.findall(piece):
            low = word.casefold()
            if word == "I":
                odd += 2
            elif not word[0].islower() or _is_calendar(low):
                head = False
            elif head or low.strip(".") not in PARTICLES:
                odd += 1
    return odd

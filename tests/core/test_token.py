"""ingester.core.token"""

import hmac
import random
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.token import Token, mint, parse_token, signing_secret, token_in_id, token_in_local_part, verify
from tests.cost import assert_cheap

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
HEX = "0123456789abcdef"
ID = UUID("11111111-2222-4333-8444-555555555555")
TENANT = "user_reply_1"
DOMAIN = "inbound.example.test"
SECRET = b"unit-test-secret"
OTHER = b"another-secret-of-more-than-32-characters"
NEW = b"a-new-secret-that-was-put-in-front-of-it"
CHECK_VALUE = "8f026d9926fd8489e5777b2b"
LEGACY = f"osr_{ID.hex}_{CHECK_VALUE}"
MINTED = mint(SECRET, tenant=TENANT, message_id=ID, domain=DOMAIN).text
FORMS = pytest.mark.parametrize("text", [MINTED, LEGACY], ids=["minted", "legacy"])


def verifies(
    text: str, secrets: Sequence[bytes] = (SECRET,), *, tenant: str = TENANT, domain: str = DOMAIN, shaped: bool = True
) -> bool:
    """Whether the text is a token that verifies; also asserts that it is token-shaped, or is not."""
    found = parse_token(text)
    assert (found is not None) == shaped, text
    return found is not None and verify(found, secrets, tenant=tenant, domain=domain)


# -- what a token is ---------------------------------------------------------------------------------------------------


def test_the_check_value_of_the_design_page() -> None:
    assert parse_token(LEGACY) == Token(id=ID, id_text=ID.hex, signature=CHECK_VALUE, legacy=True)
    assert verifies(LEGACY)


def test_a_minted_token_is_26_and_26_digits_of_the_same_hmac() -> None:
    assert MINTED == "osr_ceircejcejbthbcekvkvkvkvku_r4bg3gjg7wcitzlxpmvxnv2mze"
    digest = hmac.digest(SECRET, f"{TENANT}:{ID}:{DOMAIN}".encode(), "sha256")
    assert digest.hex().startswith(CHECK_VALUE)
    _, id_text, signature = MINTED.split("_")
    assert (_bits(id_text), _bits(signature)) == (ID.int << 2, int.from_bytes(digest[:16], "big") << 2)
    assert len(f"reply+{MINTED}") == 63
    assert verifies(MINTED)


def test_the_domain_is_signed_in_lower_case_and_the_tenant_as_it_is() -> None:
    assert mint(SECRET, tenant=TENANT, message_id=ID, domain=DOMAIN.upper()).text == MINTED
    assert verifies(MINTED, domain="Inbound.Example.TEST")
    assert not verifies(MINTED, tenant=TENANT.upper())


def _bits(digits: str) -> int:
    """RFC 4648, 6, written again from the table: the judge must not be the code that is judged."""
    number = 0
    for digit in digits:
        number = number << 5 | BASE32.index(digit)
    return number


# -- the matrix --------------------------------------------------------------------------------------------------------


@FORMS
def test_forged_in_one_digit_at_every_position(text: str) -> None:
    """Every other digit at every place of the id and of the signature: token-shaped, and worth nothing."""
    alphabet = HEX if text == LEGACY else BASE32
    places = [place for place in range(4, len(text)) if text[place] != "_"]
    assert len(places) == (56 if text == LEGACY else 52)
    for place in places:
        for digit in alphabet:
            if digit != text[place]:
                assert not verifies(text[:place] + digit + text[place + 1 :]), place


@FORMS
@pytest.mark.parametrize(
    ("secrets", "tenant", "domain", "good"),
    [
        ([SECRET], TENANT, DOMAIN, True),
        ([SECRET], "user_reply_2", DOMAIN, False),
        ([SECRET], "", DOMAIN, False),
        ([SECRET], TENANT, "outbound.example.test", False),
        ([SECRET], TENANT, "example.test", False),
        ([SECRET], TENANT, DOMAIN + ".", False),
        ([SECRET], f"{TENANT}:{ID}", "", False),
        ([OTHER], TENANT, DOMAIN, False),
        ([b""], TENANT, DOMAIN, False),
        ([SECRET], "\ud800", "\udfff", False),
        ([], TENANT, DOMAIN, False),
        ([NEW, OTHER, SECRET], TENANT, DOMAIN, True),
        ([NEW, SECRET, OTHER], TENANT, DOMAIN, True),
        ([NEW, OTHER], TENANT, DOMAIN, False),
    ],
)
def test_scope_and_rotation(text: str, secrets: list[bytes], tenant: str, domain: str, good: bool) -> None:
    assert verifies(text, secrets, tenant=tenant, domain=domain) is good
    found = parse_token(text)
    assert found is not None
    place = signing_secret(found, secrets, tenant=tenant, domain=domain)
    assert place == (secrets.index(SECRET) if good else None)


@FORMS
@pytest.mark.parametrize("spell", [str.upper, str.title, str.swapcase, str.capitalize])
def test_case_means_nothing(text: str, spell: Callable[[str], str]) -> None:
    assert spell(text) != text
    assert verifies(spell(text))
    found = parse_token(spell(text))
    assert found is not None
    assert found.text == text


def test_the_spare_bits_of_base32_must_be_clear() -> None:
    """Four spellings decode to the same 16 octets; three of them are forgeries, of the id and of the signature."""
    good = parse_token(MINTED)
    assert good is not None
    for place in (29, 56):
        digit = BASE32.index(MINTED[place])
        assert digit & 3 == 0
        for spare in (1, 2, 3):
            text = MINTED[:place] + BASE32[digit | spare] + MINTED[place + 1 :]
            found = parse_token(text)
            assert found is not None
            assert found.id == good.id
            assert found.text == text, "a token that fails must not become good when its text is read again"
            assert not verifies(text)


@pytest.mark.parametrize("message_id", [UUID(int=0), UUID(int=(1 << 128) - 1), ID])
def test_a_form_does_not_borrow_the_others_signature(message_id: UUID) -> None:
    minted = mint(SECRET, tenant=TENANT, message_id=message_id, domain=DOMAIN)
    assert verifies(minted.text)
    digest = hmac.digest(SECRET, f"{TENANT}:{message_id}:{DOMAIN}".encode(), "sha256").hex()
    assert verifies(f"osr_{message_id.hex}_{digest[:24]}")
    for mixed in (f"osr_{minted.id_text}_{digest[:24]}", f"osr_{message_id.hex}_{minted.signature}"):
        assert not verifies(mixed, shaped=False)


def _spoiled() -> Iterator[str]:
    for text in (MINTED, LEGACY):
        yield from ("", "osr_", "osr__", text[:-1], text + "a", text + "=", text[1:], " " + text, text + "\n", text * 2)
        yield from (text.replace("osr_", "osr-"), text.replace("_", "-"), text.replace("_", ""), text[:30] + text[31:])
        yield from (f"<{text}>", f"{text}@{DOMAIN}", f"reply+{text}", "\0" + text, text + "\ud800")
        # Look-alikes: fullwidth, long s, Cyrillic, and digits of another script.
        yield from (text.replace("o", "\uff4f", 1), text.replace("s", "\u017f", 1), text.replace("o", "\u043e", 1))
        yield from (text.replace("2", "\u0662"), text.replace("_", "\uff3f"), "\u200b" + text, text + "\u0301")
        yield from ("".join(chr(ord(char) + 0xFEE0) for char in text), text.replace("osr_", "\u24aasr_"))
    yield MINTED.replace("k", "\u212a")
    yield MINTED.replace("o", "0", 2).replace("0", "o", 1).replace("z", "0")
    yield f"osr_{ID}_{CHECK_VALUE}"
    yield LEGACY.replace("1", "g", 1)
    yield "osr_" + "+" + ID.hex[1:] + "_" + CHECK_VALUE


@pytest.mark.parametrize("text", sorted(set(_spoiled())))
def test_what_is_not_token_shaped(text: str) -> None:
    assert parse_token(text) is None
    assert not text.isascii() or parse_token(text.upper()) is None


# -- carriers ----------------------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("carrier", ["reply+", "reply.", "reply_", "reply-", "", "Reply+", "REPLY_"])
def test_local_parts_and_ids_that_hold_a_token(text: str, carrier: str) -> None:
    found = parse_token(text)
    for spelled in (carrier + text, carrier + text.upper()):
        assert token_in_local_part(spelled) == found
        assert token_in_id(f"{spelled}@{DOMAIN}") == found
        assert token_in_id(f"{spelled}@other.test@{DOMAIN}") == found
        assert token_in_id(spelled) == found


@FORMS
@pytest.mark.parametrize(
    "frame",
    [
        "reply{}",
        "reply++{}",
        "reply={}",
        "replay+{}",
        "xreply+{}",
        "reply+reply+{}",
        "+{}",
        "reply+{}+x",
        "{}.x",
        "{} ",
    ],
)
def test_local_parts_and_ids_that_hold_none(text: str, frame: str) -> None:
    local = frame.format(text)
    assert token_in_local_part(local) is None
    assert token_in_id(f"{local}@{DOMAIN}") is None


@pytest.mark.parametrize("local", ["", "reply", "reply+", "reply+osr_", "support", "\ud800" * 40, "osr_" * 15])
def test_ordinary_local_parts(local: str) -> None:
    assert token_in_local_part(local) is None
    assert token_in_id(local) is None
    assert token_in_id(f"@{local}") is None


def test_64_octets() -> None:
    """Ours fits with one to spare. OpenSend's has 67: what a relay cuts down to 64 is no token any more."""
    assert token_in_local_part(f"reply+{MINTED}") is not None
    assert token_in_local_part(f"reply+{MINTED}a") is None
    assert len(f"reply+{LEGACY}") == 67
    assert token_in_local_part(f"reply+{LEGACY}"[:64]) is None


# -- promises ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["a", "reply+", "osr_", "_", "@", MINTED, LEGACY, "\uff4f", "\ud800"])
def test_a_megabyte_is_refused_at_once(unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]

    def refuse() -> None:
        """A thousand times: to copy it so often takes longer than is allowed."""
        for _ in range(1000):
            assert parse_token(text) is None
            assert token_in_local_part(text) is None
            assert token_in_id(text) is None

    assert_cheap(refuse, seconds=0.02)


def test_no_random_token_is_accepted() -> None:
    """100,000 of both forms, half of them with the id of a message that exists."""
    dice = random.Random(7)
    accepted = []
    for number in range(100_000):
        if number % 4 < 2:
            id_text = ID.hex if number % 2 else f"{dice.getrandbits(128):032x}"
            text = f"osr_{id_text}_{dice.getrandbits(96):024x}"
        else:
            id_text = MINTED[4:30] if number % 2 else "".join(dice.choices(BASE32, k=26))
            text = f"osr_{id_text}_{''.join(dice.choices(BASE32, k=26))}"
        if verifies(text):
            accepted.append(text)
    assert accepted == []


@pytest.fixture
def hmacs(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The secret of each HMAC that is computed."""
    spent: list[bytes] = []
    real = hmac.digest

    def counted(key: bytes, message: bytes, name: str) -> bytes:
        spent.append(key)
        return real(key, message, name)

    monkeypatch.setattr("ingester.core.token.hmac.digest", counted)
    return spent


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, NEW, OTHER], [NEW, OTHER, SECRET]])
def test_valid_forged_and_foreign_cost_the_same_hmacs(secrets: list[bytes], hmacs: list[bytes]) -> None:
    foreign = mint(SECRET, tenant="globex", message_id=ID, domain=DOMAIN).text
    unknown = mint(b"not ours", tenant=TENANT, message_id=UUID(int=7), domain=DOMAIN).text
    spare = MINTED[:29] + BASE32[BASE32.index(MINTED[29]) | 1] + MINTED[30:]
    wrong_start, wrong_end = MINTED[:31] + "a" + MINTED[32:], MINTED[:-1] + "a"
    texts = [MINTED, LEGACY, wrong_start, wrong_end, spare, foreign, unknown, LEGACY[:-1] + "0"]
    for text in texts:
        hmacs.clear()
        assert verifies(text, secrets) is (text in (MINTED, LEGACY))
        assert hmacs == secrets, text


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One comparison a secret, of whole texts of one length: a first difference further on takes no longer."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def seen(ours: bytes, theirs: bytes) -> bool:
        compared.append((ours, theirs))
        return real(ours, theirs)

    monkeypatch.setattr("ingester.core.token.hmac.compare_digest", seen)
    for text in (MINTED, MINTED[:-1] + "a", LEGACY):
        compared.clear()
        verifies(text, [SECRET, NEW, OTHER])
        assert [theirs for _, theirs in compared] == [text.encode()] * 3
        assert {len(ours) for ours, _ in compared} == {len(text)}


@given(
    secret=st.binary(max_size=100),
    tenant=st.text(max_size=80),
    message_id=st.uuids(),
    domain=st.text(max_size=80),
    upper=st.booleans(),
    carrier=st.sampled_from(["reply+", "reply.", "reply_", "reply-", ""]),
)
def test_round_trip(secret: bytes, tenant: str, message_id: UUID, domain: str, upper: bool, carrier: str) -> None:
    made = mint(secret, tenant=tenant, message_id=message_id, domain=domain)
    local = carrier + made.text
    assert (len(made.text), made.id, made.legacy) == (57, message_id, False)
    assert token_in_local_part(local.upper() if upper else local) == made
    assert verify(made, [b"x" + secret, secret], tenant=tenant, domain=domain)
    assert not verify(made, [b"x" + secret], tenant=tenant, domain=domain)


_ANY = st.text(max_size=80) | st.text(st.characters(categories=["Cs", "Ll", "Nd"]), max_size=70)
_NEARLY = st.text(alphabet=BASE32 + "01890_s\u017fOSR+@.-", min_size=50, max_size=60).map(
    lambda text: "reply+osr_" + text
)


@given(_ANY | _NEARLY | st.from_regex(r"osr_[a-z2-7]{26}_[a-z2-7]{26}|OSR_[0-9a-f]{32}_[0-9A-F]{24}", fullmatch=True))
def test_any_text_parses_or_gives_none(text: str) -> None:
    found = parse_token(text)
    assert found is None or found.text == text.lower()
    for reading in (found, token_in_local_part(text), token_in_id(text)):
        if reading is not None:
            assert parse_token(reading.text) == reading
            assert not verify(reading, [SECRET], tenant=TENANT, domain=DOMAIN)

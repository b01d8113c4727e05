"""Which format a form is, and what holds for all of them: any fields give a mail or a problem, within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.transport.forms import Form
from ingester.transport.metadata import checked
from ingester.transport.providers import read_form
from ingester.transport.submission import Submission
from ingester.web.problem import Problem
from tests.cost import assert_cheap
from tests.transport.providers import test_cloudmailin, test_mailgun, test_sendgrid
from tests.transport.providers.bodies import MAIL, form

FORMS = {
    "mailgun": test_mailgun.fields(),
    "sendgrid": test_sendgrid.FIELDS,
    "cloudmailin": test_cloudmailin.FIELDS,
}
NAMES = sorted(
    {name for fields in FORMS.values() for name, _ in fields} | {"body-plain", "x", "envelope[recipients][]"}
)
ASKED = [None, "", "another", "postmark", *FORMS]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", FORMS)
def test_a_format_is_told_by_its_fields_unless_it_is_known(name: str, asked: str | None) -> None:
    found = read_form(form(*FORMS[name]), asked=asked)
    if asked in FORMS and asked != name:
        assert isinstance(found, Problem)
        assert found.status == 422
        assert found.field is not None
    else:
        assert isinstance(found, Submission)
        assert found.provider == name
        assert found.raw == MAIL


@pytest.mark.parametrize("fields", [[], [("a", b"1")], [("email", MAIL)], [("message", MAIL)]])
def test_another_form_is_nobodys(fields: list[tuple[str, bytes]]) -> None:
    found = read_form(form(*fields), asked=None)
    assert isinstance(found, Problem)
    assert (found.status, found.field) == (422, None)


@given(
    st.sampled_from([{}, *({field: (kept,) for field, kept in fields} for fields in FORMS.values())]),
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.binary(max_size=40), min_size=1, max_size=2).map(tuple)),
    st.sampled_from(ASKED),
)
def test_any_fields_give_a_mail_or_a_problem(
    fields: dict[str, tuple[bytes, ...]], changed: dict[str, tuple[bytes, ...]], asked: str | None
) -> None:
    found = read_form(Form(fields=fields | changed), asked=asked)
    assert isinstance(found, Problem | Submission)
    if isinstance(found, Submission):
        assert not isinstance(checked(dict(found.metadata)), Problem)


def test_what_cannot_be_stored_shows_in_what_is_kept() -> None:
    fields = dict(test_sendgrid.FIELDS) | {"SPF": b"pa\0ss\x1b\xff\r\n\tx"}
    found = read_form(form(*fields.items()), asked=None)
    assert isinstance(found, Submission)
    assert found.metadata["SPF"] == "pa\ufffdss\ufffd\ufffd\ufffd\n\tx"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "value",
    [b"\0" * 1_000_000, b'"' * 1_000_000, "\U0001f600".encode() * 250_000, b'"\\' * 500_000, b"a@b.test," * 100_000],
)
def test_large_fields_are_cheap_and_what_is_kept_is_bounded(name: str, value: bytes) -> None:
    raw = {"mailgun": "body-mime", "sendgrid": "email", "cloudmailin": "message"}[name]
    fields = {field: (value if field not in (raw, "envelope") else kept,) for field, kept in FORMS[name]}
    found = assert_cheap(lambda: read_form(Form(fields=fields), asked=name), seconds=0.5)
    assert isinstance(found, Submission)
    assert not isinstance(checked(dict(found.metadata)), Problem)

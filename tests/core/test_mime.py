"""The MIME walk: nothing lost, nothing invented; on trees that we made, trees that we broke, and tricky shapes."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.message import Message, digest
from ingester.core.mime import Bounds, Scan, decode, scan, tiles_balance
from tests.core.mime_trees import make_tree, mutate

BOUNDS = Bounds()
TIGHT = Bounds(max_line_bytes=100, max_header_bytes=300, max_header_fields=6, max_parts=4, max_depth=2)
SEEDS = st.integers(min_value=0, max_value=1 << 20)


def check(raw: bytes, bounds: Bounds) -> Message:
    """What holds for every byte string."""
    structure = scan(raw, bounds)
    assert tiles_balance(structure, raw)
    message = digest(raw, bounds)
    assert "unbalanced" not in message.flags
    assert 1 <= len(message.parts) <= bounds.max_parts
    assert [part.ordinal for part in message.parts] == list(range(1, len(message.parts) + 1))
    assert len({part.path for part in message.parts}) == len(message.parts)
    assert all(part.path.count(".") <= bounds.max_depth for part in message.parts)
    assert len(structure.header.fields) <= bounds.max_header_fields
    pos = 0
    for part in message.parts:
        if part.parent_ordinal is None:
            assert pos <= part.header_offset <= part.header_offset + part.header_length == part.offset
            pos = part.offset + part.length
        content = decode(raw, part)
        assert len(content) == part.decoded_size
        assert sha256(content).digest() == part.sha256
        check_name(part.filename)
    assert pos <= len(raw)
    check_text(message)
    return message


def check_name(name: str | None) -> None:
    if name is not None:
        assert name
        assert len(name.encode()) <= 255
        assert not name.startswith(".")
        assert not any(char in "/\\\0\r\n\u202e" for char in name)


def check_text(message: Message) -> None:
    """Postgres takes every text: UTF-8 without NUL."""
    texts: list[str | None] = [
        message.subject, message.from_address, message.from_name, message.header_to, message.rfc_message_id,
        message.date_raw, message.body_text, message.body_html, *message.to_addresses, *message.cc_addresses,
        *message.reply_to_addresses, *message.in_reply_to, *message.reference_ids, *message.report_message_ids,
    ]  # fmt: skip
    for part in message.parts:
        texts += [part.path, part.content_type, part.charset, part.disposition, part.content_id, part.encoding]
        texts += [part.original_filename, part.filename, *part.flags]
    joined = "".join(text for text in texts if text is not None)
    assert "\0" not in joined
    joined.encode("utf-8")


@settings(max_examples=3000, deadline=None, database=None)
@given(seed=SEEDS)
def test_every_leaf_of_a_tree_comes_back(seed: int) -> None:
    tree = make_tree(seed)
    message = check(tree.raw, BOUNDS)
    assert [(part.path, part.content_type) for part in message.parts] == [
        (leaf.path, leaf.content_type) for leaf in tree.leaves
    ]
    for part, leaf in zip(message.parts, tree.leaves, strict=True):
        assert decode(tree.raw, part) == leaf.content
        assert part.encoding == leaf.encoding
        assert part.original_filename == leaf.filename
        assert part.flags == ()


@settings(max_examples=4000, deadline=None, database=None)
@given(seed=SEEDS, wounds=st.lists(st.integers(min_value=0, max_value=1 << 32), min_size=1, max_size=5))
def test_every_broken_tree_gives_a_message(seed: int, wounds: list[int]) -> None:
    raw = make_tree(seed).raw
    for wound in wounds:
        raw = mutate(raw, wound)
    check(raw, TIGHT if seed % 5 == 0 else BOUNDS)


@settings(max_examples=1000, deadline=None, database=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_give_a_message(raw: bytes) -> None:
    check(raw, BOUNDS)
    check(raw, TIGHT)


@pytest.mark.long
def test_a_million_broken_trees_give_messages() -> None:
    for seed in range(1_000_000):
        raw = make_tree(seed).raw
        for wound in range(1 + seed % 4):
            raw = mutate(raw, seed * 5 + wound)
        check(raw, TIGHT if seed % 5 == 0 else BOUNDS)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_every_mail_of_the_corpora_gives_a_message(corpora: Path, line_end: bytes) -> None:
    mails = [path for path in sorted(corpora.glob("mime-*/**/*")) if path.suffix in (".eml", ".txt", ".raw")]
    assert len(mails) > 300
    for path in mails:
        raw = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)
        message = check(raw, BOUNDS)
        assert message.parts, path


def leaves(raw: bytes, bounds: Bounds = BOUNDS) -> list[tuple[str, str, bytes]]:
    structure = balanced(raw, bounds)
    return [(part.path, part.content_type, decode(raw, part)) for part in structure.parts]


def balanced(raw: bytes, bounds: Bounds = BOUNDS) -> Scan:
    structure = scan(raw, bounds)
    assert tiles_balance(structure, raw)
    return structure


def multipart(*lines: bytes, boundary: bytes = b"b", subtype: bytes = b"mixed") -> bytes:
    head = b'Content-Type: multipart/%s; boundary="%s"' % (subtype, boundary)
    return b"\r\n".join([head, b"", *lines])


def test_a_mail_without_mime_is_one_text_leaf() -> None:
    assert leaves(b"Subject: x\r\n\r\nhello\r\n") == [("1", "text/plain", b"hello\r\n")]


@pytest.mark.parametrize("raw", [b"Subject: x\r\n", b"Subject: x", b"Subject: x\r\n\r\n", b"Subject: x\n\n"])
def test_a_header_only_mail_has_one_empty_leaf(raw: bytes) -> None:
    structure = balanced(raw)
    assert [part.length for part in structure.parts] == [0]
    assert structure.header.first("subject") is not None


def test_an_empty_mail_has_one_empty_leaf() -> None:
    assert leaves(b"") == [("1", "text/plain", b"")]


def test_the_line_end_before_a_boundary_is_not_content() -> None:
    raw = multipart(b"--b", b"", b"one", b"", b"--b", b"", b"two", b"--b--", b"")
    assert [content for _, _, content in leaves(raw)] == [b"one\r\n", b"two"]


def test_paths_count_as_imap_does() -> None:
    inner = multipart(b"--i", b"", b"x", b"--i", b"", b"y", b"--i--", boundary=b"i")
    raw = multipart(b"--b", b"", b"a", b"--b", inner, b"--b", b"", b"z", b"--b--")
    assert [path for path, _, _ in leaves(raw)] == ["1", "2.1", "2.2", "3"]


def test_a_missing_final_boundary_costs_nothing() -> None:
    raw = multipart(b"--b", b"", b"one", b"--b", b"", b"two")
    assert [content for _, _, content in leaves(raw)] == [b"one", b"two"]
    assert "unclosed_multipart" in balanced(raw).flags


def test_an_outer_boundary_ends_an_inner_multipart() -> None:
    inner = multipart(b"--i", b"", b"x", boundary=b"i")
    raw = multipart(b"--b", inner, b"--b", b"", b"y", b"--b--")
    assert [(path, content) for path, _, content in leaves(raw)] == [("1.1", b"x"), ("2", b"y")]


@pytest.mark.parametrize(("outer", "inner"), [(b"ab", b"abc"), (b"abc", b"ab"), (b"a", b"a--"), (b"ab", b"a")])
def test_a_boundary_may_be_the_prefix_of_another(outer: bytes, inner: bytes) -> None:
    part = multipart(b"--" + inner, b"", b"x", b"--" + inner, b"", b"y", b"--" + inner + b"--", boundary=inner)
    raw = multipart(b"--" + outer, part, b"--" + outer, b"", b"z", b"--" + outer + b"--", boundary=outer)
    assert [(path, content) for path, _, content in leaves(raw)] == [("1.1", b"x"), ("1.2", b"y"), ("2", b"z")]


def test_the_same_boundary_nested_belongs_to_the_inner_one_until_it_closes() -> None:
    part = multipart(b"--b", b"", b"x", b"--b--")
    raw = multipart(b"--b", part, b"--b", b"", b"z", b"--b--")
    assert [(path, content) for path, _, content in leaves(raw)] == [("1.1", b"x"), ("2", b"z")]


def test_parts_after_a_premature_close_are_parts() -> None:
    raw = multipart(b"--b", b"", b"x", b"--b--", b"epilogue", b"--b", b"", b"z", b"--b--")
    assert [(path, content) for path, _, content in leaves(raw)] == [("1", b"x"), ("2", b"z")]
    assert "parts_after_close" in balanced(raw).flags


@pytest.mark.parametrize("line", [b"--b", b"--b ", b"--b\t ", b"--b  "])
def test_blanks_after_a_boundary_are_transport_padding(line: bytes) -> None:
    assert [content for _, _, content in leaves(multipart(line, b"", b"x", line, b"", b"y", b"--b--"))] == [b"x", b"y"]


def test_a_boundary_keeps_its_semicolons_and_blanks() -> None:
    boundary = b"a; b=c (d)"
    raw = multipart(b"--" + boundary, b"", b"x", b"--" + boundary + b"--", boundary=boundary)
    assert [content for _, _, content in leaves(raw)] == [b"x"]


def test_a_line_that_only_begins_with_the_boundary_is_text() -> None:
    raw = multipart(b"--b", b"", b"x", b"--bc", b"--b --", b"--b--")
    assert [content for _, _, content in leaves(raw)] == [b"x\r\n--bc\r\n--b --"]


def test_where_no_boundary_line_is_exact_a_longer_one_will_do() -> None:
    raw = multipart(b"--b (sic)", b"", b"x", b"--b (sic)", b"", b"y")
    assert [content for _, _, content in leaves(raw)] == [b"x", b"y"]
    assert "loose_boundary" in balanced(raw).flags


def test_a_multipart_whose_boundary_never_comes_is_one_opaque_leaf() -> None:
    raw = multipart(b"hello", b"")
    assert leaves(raw) == [("1", "multipart/mixed", b"hello\r\n")]
    assert balanced(raw).parts[0].flags == ("no_parts",)
    assert digest(raw, BOUNDS).body_text == "hello\n"


def test_a_multipart_without_boundary_is_read_by_the_lines_that_look_like_one() -> None:
    raw = b"Content-Type: multipart/mixed\r\n\r\n--zz\r\nContent-Type: text/html\r\n\r\nx\r\n--zz--\r\n"
    assert leaves(raw) == [("1", "text/html", b"x")]
    assert "boundary_guessed" in balanced(raw).flags


def test_a_part_without_header_begins_with_its_text() -> None:
    raw = multipart(b"--b", b"just text", b"and more", b"--b", b"", b"y", b"--b--")
    assert [content for _, _, content in leaves(raw)] == [b"just text\r\nand more", b"y"]


def test_a_forgotten_empty_line_ends_the_header_where_the_text_begins() -> None:
    raw = multipart(b"--b", b"Content-Type: text/html", b"<p>hello</p>", b"<p>you</p>", b"--b--")
    assert leaves(raw) == [("1", "text/html", b"<p>hello</p>\r\n<p>you</p>")]
    assert balanced(raw).parts[0].flags == ("no_header_end",)


def test_a_header_right_before_the_next_boundary_has_an_empty_body() -> None:
    raw = multipart(b"--b", b"Content-Type: image/png", b"--b", b"Content-Type: text/html", b"--b--")
    assert leaves(raw) == [("1", "image/png", b""), ("2", "text/html", b"")]


def test_junk_between_header_fields_is_passed_over() -> None:
    raw = b"From: a@b\r\njunk without colon\r\nSubject: x\r\n\r\nbody"
    structure = balanced(raw)
    assert [name for name, _ in structure.header.fields] == ["from", "subject"]
    assert structure.flags == ("bad_header_line",)


@pytest.mark.parametrize("line", [b"From ann@example.test Mon Jan  1 00:00:00 2024\r\n", b">From ann Mon Jan  1\n"])
def test_a_leading_mbox_line_is_no_header(line: bytes) -> None:
    structure = balanced(line + b"Subject: x\r\n\r\nbody")
    assert structure.tiles[0] == ("mbox", 0, len(line))
    assert structure.header.first("subject") == b" x\r"


def test_an_embedded_message_is_opaque_and_byte_exact() -> None:
    inner = b"Subject: in\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n\r\nx\r\n--q--\r\n"
    raw = multipart(b"--b", b"Content-Type: message/rfc822", b"", inner, b"--b--")
    assert leaves(raw) == [("1", "message/rfc822", inner)]
    assert balanced(raw).parts[0].filename == "message-1.eml"


def test_an_encoded_embedded_message_is_decoded_and_not_entered() -> None:
    raw = multipart(
        b"--b",
        b"Content-Type: message/rfc822",
        b"Content-Transfer-Encoding: base64",
        b"",
        b"U3ViamVjdDogeA==",
        b"--b--",
    )
    assert leaves(raw) == [("1", "message/rfc822", b"Subject: x")]


def test_parts_of_a_digest_are_messages_by_default() -> None:
    raw = multipart(b"--b", b"", b"Subject: x", b"", b"y", b"--b--", subtype=b"digest")
    assert leaves(raw) == [("1", "message/rfc822", b"Subject: x\r\n\r\ny")]


@pytest.mark.parametrize("value", [b"", b"text", b"; charset=utf-8", b"/", b"charset=utf-8", b"multipart"])
def test_a_content_type_that_says_nothing_means_text(value: bytes) -> None:
    assert [kind for _, kind, _ in leaves(b"Content-Type: " + value + b"\r\n\r\nx")] == ["text/plain"]


def test_more_parts_than_allowed_are_one_opaque_leaf() -> None:
    raw = multipart(*[b"--b\r\n\r\n%d" % number for number in range(10)], b"--b--")
    assert [content for _, _, content in leaves(raw, Bounds(max_parts=10))] == [b"%d" % n for n in range(10)]
    structure = balanced(raw, Bounds(max_parts=3))
    assert len(structure.parts) == 3
    assert structure.parts[-1].flags == ("parts_limit",)
    assert decode(raw, structure.parts[-1]).startswith(b"\r\n2\r\n--b\r\n\r\n3")
    assert "parts_limit" in structure.flags


def test_deeper_than_allowed_is_one_opaque_leaf() -> None:
    inner = multipart(b"--i", b"", b"x", b"--i--", boundary=b"i")
    raw = multipart(b"--b", inner, b"--b", b"", b"y", b"--b--")
    structure = balanced(raw, Bounds(max_depth=1))
    assert [(part.path, part.content_type, part.flags) for part in structure.parts] == [
        ("1", "multipart/mixed", ("depth_limit",)),
        ("2", "text/plain", ()),
    ]


def test_a_header_beyond_the_limits_is_cut_and_the_body_still_found() -> None:
    raw = b"Subject: x\r\n" + b"X: y\r\n" * 100 + b"\r\nbody"
    structure = balanced(raw, Bounds(max_header_bytes=300))
    assert "header_limit" in structure.flags
    assert decode(raw, structure.parts[0]) == b"body"
    structure = balanced(raw, Bounds(max_header_fields=10))
    assert "header_fields_limit" in structure.flags
    assert len(structure.header.fields) == 10
    assert decode(raw, structure.parts[0]) == b"body"


@pytest.mark.parametrize(("length", "flagged"), [(99, False), (100, False), (102, True), (500, True)])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
def test_long_lines_are_flagged(length: int, flagged: bool, end: bytes) -> None:
    raw = b"Subject: x\r\n\r\nshort\r\n" + b"x" * length + end
    assert ("long_line" in balanced(raw, TIGHT).flags) is flagged


def test_tiles_that_do_not_cover_the_mail_are_noticed() -> None:
    raw = b"Subject: x\r\n\r\nbody"
    structure = scan(raw, BOUNDS)
    assert tiles_balance(structure, raw)
    assert not tiles_balance(structure, raw + b"!")
    assert not tiles_balance(structure, raw[:-1])

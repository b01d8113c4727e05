"""deploy/providers/postfix.md: Debian's Postfix with the lines of that page asks us at RCPT who is served."""

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import postfix
from tests.daemon import Town, serving
from tests.mta import letter

GUIDE = Path(__file__).parents[2] / "deploy" / "providers" / "postfix.md"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may enter, for a socket whose path is short."""
    with TemporaryDirectory(prefix="lmtp-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "door"


@pytest.mark.thorough
def test_mail_for_nobody_is_refused_at_the_door(acme: Town, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```cf\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    lines = [line for line in re.sub(r"(?m)^ +", "", found[1]).splitlines() if not line.startswith("relay_")]
    stranger = "\n".join(lines).replace("permit_mynetworks, ", "")  # who connects here is on this machine
    monkeypatch.setattr(
        postfix, "_MAIN", f"{postfix._MAIN}{stranger}\naddress_verify_map =\naddress_verify_poll_delay = 1s\n"
    )
    settings = {"INGESTER_LMTP__LISTEN": f"unix:{place}", "INGESTER_LMTP__SOCKET_GROUP": postfix.OWNER}
    with serving(acme.url, settings=settings), postfix.postfix(f"unix:{place}", "acme.test") as front:
        with smtplib.SMTP("127.0.0.1", front.port) as client:
            one = letter("guide@customer.test", "support@acme.test")
            refused = client.sendmail(one.mail_from, ["support@acme.test", "nobody@acme.test"], one.content)
        assert refused["nobody@acme.test"][0] == 550
        assert refused.keys() == {"nobody@acme.test"}
        front.wait_text("status=sent")
    assert acme.count("messages") == 1
    assert acme.count("refusals") == 1

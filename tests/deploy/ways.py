"""How each command that a page shows is run by the tests. The table to extend when a page shows something new.

What begins with `ingester` runs for real, in the order of the page, against a database and a daemon of the test; it
must end with 0. `FILLED` says what stands for the examples of the pages (hosts, ids, files); `WAYS` names what is run
in another way, or by another test.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one command is run.

    `statuses`: with which it may end. `serves`: it is a daemon, which must serve and drain. `watches`: it goes on until
    Ctrl-C, which comes after its first line. `elsewhere`: a test file that runs it, and what must stand there. `demo`:
    with the tenant and the daemon of `ingester dev` instead of those of the page. `prepared`: what of `house.House` is
    called before. `mention`: the sentence names the command and leaves out what it needs; its help is asked for.
    """

    statuses: tuple[int, ...] = (0,)
    serves: bool = False
    watches: bool = False
    elsewhere: tuple[str, tuple[str, ...]] | None = None
    demo: bool = False
    prepared: str = ""
    mention: bool = False


_DEV = "tests/e2e/test_dev.py"

WAYS: Final[tuple[tuple[str, Way], ...]] = (
    # -- what starts something larger than a test may --
    (r"sh deploy/dev\.sh --samples", Way(elsewhere=(_DEV, ('developing(directory, "--samples")',)))),
    (r"ingester dev", Way(elsewhere=(_DEV, ("with developing(directory) as daemon",)))),
    (r"sh tests/run\.sh.*", Way(elsewhere=(".ci/run", ("exec sh tests/run.sh",)))),
    (r"\S*python -m tests\.bench \w+( --blobs \w+)?", Way(elsewhere=("tests/bench/test_bench.py", ("tests.bench",)))),
    (r"python -m tests\.test_readme", Way(elsewhere=("tests/test_readme.py", ("__main__",)))),
    # -- what needs an object store --
    (r"ingester reconcile s3.*", Way(elsewhere=("tests/cli/test_reconcile.py", ('"reconcile"', '"s3"', '"--apply"')))),
    (r"ingester blobs sweep.*", Way(elsewhere=("tests/cli/test_blobs.py", ('"sweep"', '"--apply"')))),
    # -- what is only spoken of --
    (r"ingester (?:quota set|rematch)", Way(mention=True)),
    # -- what goes on --
    (r"ingester serve.*", Way(serves=True)),
    (r"ingester top", Way(watches=True)),
    (r"ingester tail.*", Way(watches=True)),
    # -- what has an opinion about the machine of the test --
    (r".*\bingester doctor.*", Way(statuses=(0, 1))),
    (r"ingester domain verify.*", Way(statuses=(0, 1))),
    # -- what asks the daemon itself --
    (r"ingester health.*", Way(prepared="need_daemon")),
    # -- what needs a tenant that a page may have erased --
    (r"ingester erase .*--tenant.*", Way(prepared="need_tenant")),
    # -- what stands for what cannot be had --
    (r"psql .* -f deploy/citus\.sql", Way(prepared="pretend_citus")),
    # -- what is said of `ingester dev` --
    (r".*(?:demo\.test|ingester dsn|inbound-token|hello\.eml|intake revoke).*", Way(demo=True)),
)

FILLED: Final[tuple[tuple[str, str], ...]] = (
    (r"postgresql://ingester:secret@127\.0\.0\.1:6432/ingester", "pooled_url"),
    (r"postgresql://ingester:secret@[\w.:]+/ingester", "url"),
    (r"postgresql://ingester_runtime:secret@[\w.:]+/ingester", "runtime_url"),
    (r"/etc/ingester/mx\.pem", "certificate"),
    (r"/etc/ingester/mx\.key", "key"),
    (r"--server mx\.acme\.example:25", "server"),
    (r"127\.0\.0\.1:8025", "http"),
    (r"(?<=outbound sent )MESSAGE_ID", "outbound_id"),
    (r"(?<=dead show )ID|(?<=dead discard )ID|(?<=dead redrive )ID", "dead_letter_id"),
    (r"(?<=intake revoke )ID", "intake_id"),
    (r"(?<=key revoke )ID", "key_id"),
    (r"\bMESSAGE_ID\b", "message_id"),
    (r"\bSLUG\b", "slug"),
    (r"(?<=--address )A\b", "person"),
    (r"(?<=inspect )TOKEN\b", "token"),
    (r"(?<=FILE\.eml --to )support@acme\.example", "mailbox"),
    (r"\bFILE\.eml\b", "mail_file"),
    (r"\.venv/bin/", "nothing"),
    (r"(?<=file://)/(?=var/)", "machine"),
    (r"(?<![\w.:/@-])/(?=(?:etc|opt|run|var)/)", "machine"),
    (r"(?<=ingester send )(?!.*--server)", "server_option"),
)
"""What on the pages stands for something of the reader's, and the attribute of `house.House` that the test has."""


def way_of(text: str) -> Way:
    """The first that fits the whole command, the comment behind it left out."""
    command = re.sub(r" +# .*$", "", text)
    for pattern, way in WAYS:
        if re.fullmatch(pattern, command):
            return way
    return Way()

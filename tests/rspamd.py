"""The real rspamd, installed or fetched from Debian, with a small configuration of its own on a free loopback port.

It asks no DNS, learns nothing and fetches nothing. Started by root its workers are `nobody`. Four subjects get a mail
the action of the same name (`soft reject`, `greylist`, `add header`, `rewrite subject`), GTUBE gets it rejected.
"""

import http.client
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients import joined, unpack
from tests.ports import free_port

START_SECONDS = 30.0
"""A safety net: it takes half a second."""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

_CONFIGURATION = """
lua = "$DBDIR/rules.lua";
options {
  filters = "regexp";
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }
  tempdir = "$DBDIR"; hs_cache_dir = "$DBDIR";
  stats_file = "$DBDIR/stats"; control_socket = "$DBDIR/control mode=0600"; pidfile = "$DBDIR/pid";
  url_tld = "$DBDIR/top_level_domains";
}
logging { type = "console"; level = "warning"; }
actions { reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; }
worker "normal" { bind_socket = "127.0.0.1:PORT"; count = 1; mime = true; }
regexp {
  SUBJECT_GREYLIST { re = "Subject=/^greylist$/"; score = 5; }
  SUBJECT_ADD_HEADER { re = "Subject=/^add header$/"; score = 7; }
  SUBJECT_REWRITE { re = "Subject=/^rewrite subject$/"; score = 9; }
}
"""
_RULES = """
local function first(list) return list and list[1] and list[1].addr or '' end
local function envelope(task)
  local recipients = {}
  for _, one in ipairs(task:get_recipients('smtp') or {}) do recipients[#recipients + 1] = one.addr end
  return true, 1.0, {
    'ip=' .. tostring(task:get_ip()), 'helo=' .. tostring(task:get_helo()), 'from=' .. first(task:get_from('smtp')),
    'rcpt=' .. table.concat(recipients, ' '), 'queue_id=' .. tostring(task:get_queue_id()),
  }
end
local function soft(task)
  if task:get_subject() == 'soft reject' then task:set_pre_result('soft reject', 'come again') end
end
rspamd_config:register_symbol{name = 'ENVELOPE', type = 'normal', score = 0.0, callback = envelope}
rspamd_config:register_symbol{name = 'SOFT', type = 'normal', score = 0.0, callback = soft}
"""


@contextmanager
def running() -> Iterator[str]:
    """An rspamd, and the URL of its /checkv2. Skips the test where it cannot be had."""
    program, libraries, share = _program()
    port = free_port()
    directory = Path(tempfile.mkdtemp(prefix="ingester-rspamd-"))
    try:
        (directory / "rspamd.conf").write_text(_CONFIGURATION.replace("PORT", str(port)))
        (directory / "rules.lua").write_text(_RULES)
        (directory / "top_level_domains").write_text("com\nexample\ntest\n")  # the real list takes it ten seconds
        process = _start(program, libraries, share, directory)
        try:
            _await_answer(process, port, directory / "log")
            yield f"http://127.0.0.1:{port}/checkv2"
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)
    finally:
        shutil.rmtree(directory)


def _program() -> tuple[str, str, Path]:
    """The program, where its libraries lie, and its directory of Lua."""
    installed = shutil.which("rspamd")
    if installed:
        return installed, "", Path("/usr/share/rspamd")
    root = unpack(("rspamd",))
    libraries = [root / "usr/lib/rspamd", *root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")]
    return str(root / "usr/bin/rspamd"), joined(libraries), root / "usr/share/rspamd"


def _start(program: str, libraries: str, share: Path, directory: Path) -> subprocess.Popen[bytes]:
    command = [program, "--no-fork", "--config", str(directory / "rspamd.conf")]
    if os.geteuid() == 0:
        command += ["--user", "nobody", "--group", "nogroup"]
        shutil.chown(directory, "nobody", "nogroup")
    places = dict.fromkeys(("DBDIR", "RUNDIR", "LOGDIR", "CONFDIR", "LOCAL_CONFDIR"), directory)
    places |= {"SHAREDIR": share, "LUALIBDIR": share / "lualib", "RULESDIR": share / "rules"}
    places |= {"PLUGINSDIR": share / "plugins"}
    command += [f"--var={name}={place}" for name, place in places.items()]
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries}
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Ask until it answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"rspamd does not start: {log.read_text(errors='replace')[-2000:]}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            time.sleep(0.02)  # nothing tells us when it listens
        finally:
            connection.close()

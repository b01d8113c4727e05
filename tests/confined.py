"""Start a command as a unit of systemd confines it, for machines where systemd does not run.

`python -m tests.confined UNIT -- COMMAND`. The process becomes the command. What the unit says of system
calls (SystemCallFilter, MemoryDenyWriteExecute, RestrictAddressFamilies, RestrictNamespaces, RestrictSUIDSGID) is made
into filters of the kernel by libseccomp, in systemd's own way. There are no new privileges; for root there is neither a
capability nor, where the machine lets it make a mount namespace, a file that can be written but in /dev and /proc.
"""

import ctypes
import ctypes.util
import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.clients import joined, unpack

ALLOW: Final = 0x7FFF0000
NOT_EQUAL, GREATER_EQUAL, EQUAL, MASKED = 1, 5, 4, 7
PROT_WRITE_EXEC, PROT_EXEC, SHM_EXEC = 6, 4, 0o100000
SUID_SGID: Final = (0o4000, 0o2000)
NAMESPACES: Final = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00000080)
FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
LAST_CAPABILITY: Final = 63
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CLONE_NEWNS: Final = 0x20000
MOUNT_SETATTR: Final = 442
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
READ_ONLY, PRIVATE = 1, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


class Compare(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class Filter:
    """System calls that fail, by one rule for all or for arguments of theirs."""

    def __init__(self, library: ctypes.CDLL, *, otherwise: int = ALLOW) -> None:
        self._library = library
        self._context = ctypes.c_void_p(library.seccomp_init(otherwise))
        assert self._context.value, "seccomp_init"

    def rule(self, name: str, *arguments: tuple[int, int, int, int], action: int) -> None:
        """Each argument: its number, the comparison and its two operands. Unknown names are passed over."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            given = (Compare * len(arguments))(*(Compare(*one) for one in arguments))
            done = self._library.seccomp_rule_add_array(self._context, action, number, len(arguments), given)
            assert done == 0, f"{name}: {os.strerror(-done)}"

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        assert done == 0, os.strerror(-done)


def fails(number: int = errno.EPERM) -> int:
    """The action that makes a call fail."""
    return 0x00050000 | number


@cache
def seccomp() -> ctypes.CDLL:
    """The library. Skips the test where it cannot be had."""
    found = ctypes.util.find_library("seccomp")
    library = ctypes.CDLL(found or str(next(unpack(("libseccomp2",)).glob("**/libseccomp.so.2"))))
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare))
    ]
    return library


def options(unit: Path) -> dict[str, list[str]]:
    """The options of a unit, whatever their section."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def analyze() -> tuple[list[str], Path]:
    """The command systemd-analyze, installed or fetched from Debian, and the units that systemd brings along."""
    if shutil.which("systemd-analyze"):
        return ["systemd-analyze"], Path("/lib/systemd/system")
    root = unpack(("systemd",))
    libraries = [*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*"), *root.glob("**/systemd")]
    command = ["env", f"LD_LIBRARY_PATH={joined(libraries)}", str(next(root.glob("**/bin/systemd-analyze")))]
    return command, next(one for one in root.glob("**/systemd/system") if (one / "sysinit.target").exists())


def calls_of(groups: Sequence[str], analyze: Sequence[str]) -> Iterator[str]:
    """The system calls of these groups, and of those that they hold."""
    for group in groups:
        words = [*analyze, "syscall-filter", "--no-pager", group]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        inner = re.findall(r"^ +([@\w-]+)$", told, re.MULTILINE)
        yield from (one for one in inner if not one.startswith("@"))
        yield from calls_of([one for one in inner if one.startswith("@")], analyze)


def filters(said: dict[str, list[str]], analyze: Sequence[str]) -> Iterator[Filter]:
    """Those of the unit; the one that forbids what it does not name comes last, for it forbids the others' making."""
    library = seccomp()
    some = Filter(library)
    if said["MemoryDenyWriteExecute"] == ["yes"]:
        some.rule("mmap", (2, MASKED, PROT_WRITE_EXEC, PROT_WRITE_EXEC), action=fails())
        some.rule("mprotect", (2, MASKED, PROT_EXEC, PROT_EXEC), action=fails())
        some.rule("pkey_mprotect", (2, MASKED, PROT_EXEC, PROT_EXEC), action=fails())
        some.rule("shmat", (2, MASKED, SHM_EXEC, SHM_EXEC), action=fails())
    if said["RestrictNamespaces"] == ["yes"]:
        for flag in NAMESPACES:
            some.rule("clone", (0, MASKED, flag, flag), action=fails())
        some.rule("unshare", action=fails())
        some.rule("setns", action=fails())
        some.rule("clone3", action=fails(errno.ENOSYS))
    if said["RestrictSUIDSGID"] == ["yes"]:
        for bit in SUID_SGID:
            for name, place in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
                some.rule(name, (place, MASKED, bit, bit), action=fails())
        some.rule("openat2", action=fails(errno.ENOSYS))
    families = {FAMILIES[name] for name in said["RestrictAddressFamilies"][0].split()}
    for family in set(range(max(families) + 1)) - families:
        some.rule("socket", (0, EQUAL, family, 0), action=fails(errno.EAFNOSUPPORT))
    some.rule("socket", (0, GREATER_EQUAL, max(families) + 1, 0), action=fails(errno.EAFNOSUPPORT))
    yield some
    allowed, denied = (value.split() for value in said["SystemCallFilter"])
    assert [one[:1] for one in allowed] == ["@"]
    assert denied[0].startswith("~@")
    denied[0] = denied[0][1:]
    known = Filter(library, otherwise=fails())
    for name in set(calls_of(["@default", *allowed], analyze)) - set(calls_of(denied, analyze)):
        known.rule(name, action=ALLOW)
    yield known


def close_files() -> None:
    """Make all files read-only, as ProtectSystem=strict does. Nothing, where this process may not."""
    if os.geteuid() or _libc.unshare(CLONE_NEWNS):
        return
    set_attributes(b"/", set=READ_ONLY, propagation=PRIVATE)
    for path in (b"/dev", b"/proc"):
        set_attributes(path, clear=READ_ONLY)


def set_attributes(path: bytes, **given: int) -> None:
    """mount_setattr(2), for all that is mounted below."""
    attributes = Attributes(**given)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    done = _libc.syscall(MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, ctypes.byref(attributes), size)
    assert done == 0, f"{path!r}: {os.strerror(ctypes.get_errno())}"


def give_up_privileges() -> None:
    """No capability survives the next exec, and none comes back."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Confine this process and become the command."""
    unit, end, *command = arguments
    assert end == "--"
    made = list(filters(options(Path(unit)), analyze()[0]))
    close_files()
    give_up_privileges()
    for one in made:
        one.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except pytest.skip.Exception as error:
        sys.exit(str(error))

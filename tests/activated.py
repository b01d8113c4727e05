"""Start a command as systemd starts a service with sockets: descriptors from 3 on, and their names in the environment.

`python -m tests.activated NAME=DESCRIPTOR ... -- COMMAND`. The process becomes the command: its id stays.
"""

import fcntl
import os
import sys

FIRST = 3
OUT_OF_THE_WAY = 100


def main(arguments: list[str]) -> None:
    """Put the descriptors in their places and become the command."""
    end = arguments.index("--")
    named = [one.partition("=")[::2] for one in arguments[:end]]
    # Copies first: a descriptor may stand where another is to go.
    copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, OUT_OF_THE_WAY) for _, number in named]
    for place, copy in enumerate(copies, FIRST):
        os.dup2(copy, place)
        os.close(copy)
    told = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(named)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in named),
    }
    os.execvpe(arguments[end + 1], arguments[end + 1 :], os.environ | told)


if __name__ == "__main__":
    main(sys.argv[1:])

"""ingester.clock"""

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from ingester.clock import new_id, new_ids

MANY = 5000


def test_ids_are_version_7_and_never_come_twice() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [one for batch in pool.map(lambda _: [new_id() for _ in range(MANY)], range(4)) for one in batch]
        made += [one for batch in pool.map(new_ids, range(200)) for one in batch]
    assert len(set(made)) == len(made) == 4 * MANY + sum(range(200))
    assert {one.version for one in made} == {7}


def test_a_child_does_not_use_the_bytes_of_its_parent() -> None:
    new_id()  # the pool is filled
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(new_id().bytes for _ in range(50)))
        os._exit(0)
    os.close(writing)
    ours = {new_id().int & (1 << 62) - 1 for _ in range(50)}
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    theirs = {UUID(bytes=data[at : at + 16]).int & (1 << 62) - 1 for at in range(0, len(data), 16)}
    assert len(theirs) == 50
    assert not ours & theirs

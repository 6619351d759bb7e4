"""A hash of source code."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from smoothdescent.source_code import code_digest, parse


def test_code_digest_sees_code_alone(tmp_path):
    path = tmp_path / "m.py"
    digests = []
    for text in (
        "def f():\n    return 1\n",
        '"""One."""\ndef f():  # one\n    """Return one."""\n    return  1\n',
        "def f():\n    return 2\n",
    ):
        path.write_text(text)
        digests.append(code_digest(path))
    assert digests[0] == digests[1] != digests[2]


class Finalised:
    """In a cycle; lets other threads run when it is collected."""

    def __init__(self):
        self.own = self

    def __del__(self):
        time.sleep(0)


def test_two_threads_parse(tmp_path):
    path = tmp_path / "code.py"
    path.write_text("name = [(1, 2), {3: 4}]\n" * 300)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def sizes(_):
        found = set()
        for _ in range(20):
            Finalised()
            found.add(len(parse(path).body))
        return found

    try:
        with ThreadPoolExecutor(2) as pool:
            found = set().union(*pool.map(sizes, range(2)))
    finally:
        sys.setswitchinterval(interval)
    assert found == {300}


def test_code_digest_is_the_same_by_a_link(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    files = code / "a.py", code / "b.py"
    for file in files:
        file.write_text(f"name = {file.stem!r}")
    (tmp_path / "link").symlink_to(code)
    assert code_digest(tmp_path / "link/a.py", files[1]) == code_digest(*files)

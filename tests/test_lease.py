"""One writer at a time, whatever happens to the processes."""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothdescent.errors import UserError
from smoothdescent.lease import RECORD_BYTES, Deposed, Holder, Lease, Silence, Timing

# Long enough to be seen as alive on a machine that is busy.
PATIENT = Timing(beat=0.1, stale=60, check=0.02, pause=0.5, poll=0.02)
QUICK = Timing(beat=0.05, stale=0.5, check=0.02, pause=0.1, poll=0.02)

# Holds a lease; says so, and looks at it at every line that it reads until it is told to end.
HOLDER = """
import sys
from smoothdescent.errors import UserError
from smoothdescent.lease import Lease, Timing

try:
    with Lease(sys.argv[1], wait=float(sys.argv[2]), timing=Timing(**eval(sys.argv[3]))) as lease:
        print("held", flush=True)
        for line in sys.stdin:
            if line == "end\\n":
                break
            lease.check()
            print("still held", flush=True)
    print("given back", flush=True)
except UserError as error:
    print(type(error).__name__, error, flush=True)
"""


class Contender:
    """A process that wants the lease of a folder."""

    def __init__(self, folder, wait=math.inf, timing=PATIENT, job=None):
        environment = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), str(wait), str(vars(timing))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "SLURM_JOB_ID": job} if job else environment,
        )

    def line(self):
        """Return the next line that it prints."""
        return self.process.stdout.readline().strip()

    def ask(self, line):
        """Write it a line and return its answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()


@pytest.fixture
def start(tmp_path):
    """Starts contenders for a run's folder; they end with the test."""
    contenders = []

    def begin(**arguments):
        contenders.append(Contender(tmp_path / "runs/w1_s0", **arguments))
        return contenders[-1]

    yield begin
    for contender in contenders:
        contender.process.kill()
        contender.process.communicate()


@pytest.fixture
def folder(tmp_path):
    """The run's folder that the contenders of `start` want."""
    return tmp_path / "runs/w1_s0"


def files(folder):
    return sorted(path.name for path in folder.parent.iterdir())


def edit(path, **changes):
    """Change a lease as its holder would: in place."""
    record = json.loads(path.read_bytes()) | changes
    with path.open("rb+") as file:
        file.write(json.dumps(record).ljust(RECORD_BYTES).encode())


def test_it_leaves_nothing_behind(folder):
    for _ in range(2):
        with Lease(folder, timing=PATIENT) as lease:
            assert files(folder) == ["w1_s0.lease"]
            lease.check()
        assert files(folder) == []


def test_a_second_process_waits_or_names_the_holder(start, folder):
    first = start(job="4711")
    assert first.line() == "held"
    with pytest.raises(UserError) as refusal, Lease(folder, wait=0, timing=PATIENT):
        raise AssertionError
    sentence = str(refusal.value)
    assert f"{folder} is in use by SLURM job 4711, process {first.process.pid} on host" in sentence
    assert f"since {time.strftime('%Y-')}" in sentence
    waiting = start()
    told = waiting.process.stderr.readline()
    assert f"in use by SLURM job 4711, process {first.process.pid}" in told
    assert first.ask("check") == "still held"
    assert first.ask("end") == "given back"
    assert waiting.line() == "held"
    assert Holder.read(folder.with_name("w1_s0.lease")).pid == waiting.process.pid


def test_waiting_can_be_ended(start, folder):
    assert start().line() == "held"

    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    with pytest.raises(Stopped), Lease(folder, while_waiting=stop, timing=PATIENT):
        raise AssertionError
    assert files(folder) == ["w1_s0.lease"]


def test_a_killed_holder_is_followed_at_once(start, folder):
    first = start()
    assert first.line() == "held"
    first.process.kill()  # not waited for: it stays a zombie, as under a parent that hangs
    begun = time.monotonic()
    second = start(wait=10)
    assert second.line() == "held"
    assert time.monotonic() - begun < PATIENT.stale / 2
    assert "was abandoned by process" in second.process.stderr.readline()
    assert second.ask("end") == "given back"
    assert files(folder) == []


def test_a_stopped_holder_is_deposed_and_notices(start, folder):
    first = start(timing=QUICK)
    assert first.line() == "held"
    first.process.send_signal(signal.SIGSTOP)
    second = start()  # patient with others, so that it is not deposed itself
    third = start(timing=QUICK)
    assert third.line() == "held", "it is the one that did not wait for long"
    lease = folder.with_name("w1_s0.lease")
    first.process.send_signal(signal.SIGCONT)
    for _ in range(50):  # the first one renews what it thinks is its lease
        assert Holder.read(lease).pid == third.process.pid
        time.sleep(QUICK.beat / 10)
    answer = first.ask("check")
    assert answer.startswith(f"Deposed {folder} was taken over by process {third.process.pid}")
    first.process.wait(timeout=30)
    assert Holder.read(lease).pid == third.process.pid, "the new lease is left alone"
    assert third.ask("check") == "still held"
    assert third.ask("end") == "given back"
    assert second.line() == "held"


def test_a_holder_that_was_slow_but_not_followed_goes_on(start):
    first = start(timing=QUICK)
    assert first.line() == "held"
    first.process.send_signal(signal.SIGSTOP)
    time.sleep(2 * QUICK.stale)
    first.process.send_signal(signal.SIGCONT)
    assert first.ask("check") == "still held"


@pytest.mark.parametrize("change", [{"machine": "another"}, {"machine": None}])
def test_a_holder_elsewhere_is_judged_by_its_changes_alone(folder, change):
    """Its process number means nothing here, nor does its clock."""
    path = folder.with_name("w1_s0.lease")
    with Lease(folder, timing=PATIENT):
        record = json.loads(path.read_bytes())
    ended = subprocess.Popen(["true"])
    ended.wait()
    record |= {"pid": ended.pid, "heartbeat": "1970-01-01 00:00:00", "nonce": "n", **change}
    path.write_text(json.dumps(record).ljust(RECORD_BYTES))
    gone = threading.Event()

    def beat():
        beats = 0
        while not gone.wait(QUICK.beat):
            edit(path, beats=(beats := beats + 1))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match="in use"), Lease(folder, 3 * QUICK.stale, timing=QUICK):
            raise AssertionError
    finally:
        gone.set()
        thread.join()
    begun = time.monotonic()
    with Lease(folder, timing=QUICK):
        assert time.monotonic() - begun > QUICK.stale


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pid": 1', b"\xff"])
def test_a_damaged_lease_is_abandoned_too(folder, content):
    folder.parent.mkdir()
    path = folder.with_name("w1_s0.lease")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"in use by a process that .*lease does not name"):
        Lease(folder, wait=0, timing=QUICK).__enter__()
    with Lease(folder, timing=QUICK) as lease:
        lease.check()
    assert files(folder) == []


def test_a_deleted_lease_is_lost(folder):
    with pytest.raises(Deposed, match="its lease was deleted"), Lease(folder, timing=QUICK) as held:
        held.path.unlink()
        held.check()
    assert files(folder) == []


def test_a_full_disk_leaves_no_lease(small_disk):
    with (small_disk / "filler").open("wb") as filler, pytest.raises(OSError, match="No space"):
        filler.write(bytes(2**20))
    with pytest.raises(UserError, match="the disk is full"):
        Lease(small_disk / "w1_s0", timing=QUICK).__enter__()
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.fixture
def abandoned(folder):
    """The path of a lease whose holder has ended."""
    path = folder.with_name("w1_s0.lease")
    with Lease(folder, timing=PATIENT):
        record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"started": "1"}).ljust(RECORD_BYTES))
    return path


def test_of_two_that_take_over_the_last_one_wins(folder, abandoned, monkeypatch):
    """Both see the same abandoned lease before either replaces it."""
    both, replace = threading.Barrier(2), os.replace
    entered = []

    def replace_together(source, target):
        if both.wait(timeout=10):
            time.sleep(PATIENT.pause / 4)
        replace(source, target)

    monkeypatch.setattr("smoothdescent.lease.os.replace", replace_together)

    def contend():
        with contextlib.suppress(UserError), Lease(folder, wait=0, timing=PATIENT):
            entered.append(True)
            time.sleep(2 * PATIENT.pause)

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == [True]


def test_a_lease_renewed_at_the_last_moment_is_left_alone(folder, abandoned, monkeypatch):
    monkeypatch.setattr("smoothdescent.lease.log", lambda _: edit(abandoned, nonce="renewed"))
    with pytest.raises(UserError, match="in use"), Lease(folder, wait=0, timing=PATIENT):
        raise AssertionError
    assert json.loads(abandoned.read_bytes())["nonce"] == "renewed"


def test_another_process_with_the_number_of_the_holder(folder, abandoned):
    """Numbers of processes are used again: the time of the start tells them apart."""
    assert Holder.read(abandoned).pid == os.getpid()
    with Lease(folder, wait=10, timing=PATIENT) as lease:
        lease.check()


# Holds the lease again and again, for some milliseconds, and now and then kills itself holding it.
CROWD = """
import os, random, signal, sys, time
from pathlib import Path
from smoothdescent.lease import Lease, Timing

folder, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
draw = random.Random(name)
for _ in range(rounds):
    with Lease(folder, timing=Timing(**eval(sys.argv[4]))) as lease:
        inside = folder / "inside"
        file = os.open(inside, os.O_CREAT | os.O_EXCL)  # fails if another one is inside
        time.sleep(0.01 * draw.random())
        lease.check()
        killed = draw.random() < 0.3
        os.close(file)
        inside.unlink()
        with open(folder / "turns", "a") as turns:
            turns.write(name + "\\n")
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_of_many_contenders_one_holds_it(folder):
    folder.mkdir(parents=True)
    timing = str(vars(Timing(beat=0.1, stale=60, check=0, pause=0.3, poll=0.005)))
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(folder), str(number), "4", timing],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    expected = []
    for number, process in enumerate(crowd):
        _, errors = process.communicate(timeout=120)
        draws = random.Random(str(number))
        fates = [(draws.random(), draws.random())[1] < 0.3 for _ in range(4)]
        turns = fates.index(True) + 1 if True in fates else 4
        assert process.returncode == (-signal.SIGKILL if True in fates else 0), errors
        expected += [str(number)] * turns
    assert sorted((folder / "turns").read_text().split()) == expected
    assert len(expected) < 32, "some were killed"
    with Lease(folder, timing=PATIENT):
        pass
    assert files(folder) == ["w1_s0"]


times = st.floats(0, 100)


@given(looks=st.lists(st.tuples(times, st.integers(0, 1))), step=times)
def test_silence(looks, step):
    """It ends with any change, and one look adds no more than a step, nor than the time since."""
    silence = Silence(longest_step=step)
    now, before, bound = 0.0, None, 0.0
    for elapsed, content in looks:
        now += elapsed
        bound = bound + min(elapsed, step) if content == before else 0.0
        before = content
        assert silence.seconds(bytes([content]), now) == pytest.approx(bound)

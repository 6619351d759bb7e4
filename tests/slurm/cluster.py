"""A throw-away SLURM on this machine: a controller and nodes with one GPU each.

The daemons are SLURM's own; the GPUs are stand-ins that jobs can ask for and see, but not compute
on. Everything lies in one folder, listens on this machine alone, and ends with `stop`: no service
manager, no control groups, no other SLURM of the machine is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "setpriv")
CLIENTS = (
    "srun",
    "sbatch",
    "salloc",
    "squeue",
    "sinfo",
    "scancel",
    "scontrol",
    "sacct",
    "sacctmgr",
    "sshare",
)
# Daemons are installed outside of an ordinary user's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PLUGIN = "snakemake_executor_plugin_slurm"
MARKER = "SMOOTHDESCENT_TEST_CLUSTER"
# A client hangs when its controller is gone.
CLIENT_SECONDS = 20
START_SECONDS = 30

CONFIGURATION = """\
ClusterName=throwaway
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptExemptTime=0
KillWait=5
MessageTimeout=10
BatchStartTimeout=10
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
Waittime=0
MinJobAge=300
ReturnToService=1
JobRequeue=0
UnkillableStepTimeout=20
"""
# Jobs of `spare` make room for jobs of the others.
PARTITIONS = {
    "cpu": "Default=YES PriorityTier=10 PreemptMode=OFF",
    "gpu": "PriorityTier=10 PreemptMode=OFF",
    "spare": "PriorityTier=1 PreemptMode=REQUEUE GraceTime=10",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as `squeue` tells of it."""

    id: str
    state: str
    node: str
    reason: str
    name: str
    comment: str
    folder: str


def missing() -> str | None:
    """Return what to install to run jobs on a cluster here, or nothing if all is there."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]
    if absent:
        return (
            f"no {', '.join(absent)} on this machine: `apt-get install slurm-wlm munge` gets a "
            "SLURM for the tests; nothing of it needs to be configured or started"
        )
    if importlib.util.find_spec(PLUGIN) is None:
        return f"no {PLUGIN} in this environment: `pip install -r requirements.txt` gets it"
    return None


class Cluster:
    """A cluster whose nodes are numbered from 1.

    Args:
        folder: an absolute path to a folder that exists and is empty; short, for a socket is in it.
        nodes: number of nodes, each with one GPU, 4 CPUs and 64 GB, whatever the machine has.
    """

    def __init__(self, folder: Path, nodes: int = 2):
        self.root = folder
        self.nodes = range(1, nodes + 1)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemons and wait until every node can take a job."""
        self._configure()
        self._launch(
            "munged",
            "--foreground",
            "--force",  # only this user needs to reach its socket
            f"--key-file={self.root}/etc/munge.key",
            f"--socket={self.root}/run/munge.socket",
            f"--pid-file={self.root}/run/munged.pid",
            f"--log-file={self.root}/log/munged.log",
            f"--seed-file={self.root}/etc/munge.seed",
        )
        self._wait((self.root / "run/munge.socket").exists, "munged")
        self._launch("slurmctld", "-D")
        for node in self.nodes:
            self.start_slurmd(node)

    def stop(self) -> None:
        """End every process of the cluster, its jobs' included; those left to themselves too."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()
        deadline = time.monotonic() + START_SECONDS
        while processes := self.processes():
            assert time.monotonic() < deadline, f"still there: {processes}"
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=1)

    def environment(self) -> dict[str, str]:
        """Return the environment in which SLURM's clients, and Snakemake, see this cluster."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_"))
        }
        path = os.pathsep.join([f"{self.root}/bin", os.environ.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, MARKER: str(self.root)}

    def client(self, *command: str, cwd: Path | None = None) -> str:
        """Run one of SLURM's clients and return what it printed."""
        done = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=CLIENT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """Submit a shell command as a job and return the job's number."""
        output = f"--output={self.root}/log/job%j.log"
        return self.client(
            "sbatch", "--parsable", output, *options, "--wrap", script, cwd=cwd
        ).strip()

    def output(self, job: str) -> str:
        """Return what a job of `submit` has printed so far."""
        return (self.root / f"log/job{job}.log").read_text()

    def jobs(self) -> dict[str, Job]:
        """Return all jobs, those that ended too, by number."""
        rows = self.client("squeue", "-h", "-t", "all", "-o", "%i|%T|%N|%r|%j|%k|%Z").splitlines()
        return {job.id: job for job in (Job(*row.strip().split("|", 6)) for row in rows)}

    def wait_for(self, job: str, *states: str, seconds: float = 60) -> Job:
        """Wait until a job is in one of some states, such as RUNNING, and return it."""
        deadline = time.monotonic() + seconds
        while (found := self.jobs()[job]).state not in states:
            assert time.monotonic() < deadline, f"{found}, expected {states}"
            time.sleep(0.2)
        return found

    def scancel(self, *arguments: str) -> None:
        """Cancel jobs: their numbers, or other arguments of `scancel`."""
        self.client("scancel", *arguments)

    def node_state(self, node: int) -> str:
        """Return a node's state, such as idle, mix, down or down*."""
        return self.client("sinfo", "-h", "-N", "-n", f"n{node}", "-o", "%t").split()[0]

    def wait_for_node(self, node: int, *states: str, seconds: float = 60) -> None:
        """Wait until a node is in one of some states."""
        self._wait(lambda: self.node_state(node) in states, f"n{node} in {states}", seconds)

    def node_down(self, node: int) -> None:
        """Declare a node unfit: its jobs end and it gets no new ones."""
        self.client("scontrol", "update", f"NodeName=n{node}", "State=DOWN", "Reason=test")

    def node_resume(self, node: int) -> None:
        """Let a node that was down take jobs again."""
        self.client("scontrol", "update", f"NodeName=n{node}", "State=RESUME")

    def kill_slurmd(self, node: int) -> None:
        """Kill a node's daemon, as a crash would; the processes of its jobs run on."""
        daemon = self._daemons.pop(f"slurmd{node}")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    def start_slurmd(self, node: int) -> None:
        """Start a node's daemon and wait until the node can take jobs."""
        self._launch("slurmd", "-D", "-N", f"n{node}", name=f"slurmd{node}")
        self._wait(lambda: self._usable(node), f"slurmd{node}")

    def processes(self) -> list[psutil.Process]:
        """Return the processes that the cluster and its jobs have started and that still live."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-20:])
            for path in sorted((self.root / "log").glob("*d*.log"))
        )

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # A job's supervisor writes its title over its environment, but it works in the spool.
            return process.environ().get(MARKER) == str(self.root) or Path(
                process.cwd()
            ).is_relative_to(self.root)
        return False

    def _usable(self, node: int) -> bool:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, IndexError):
            return self.node_state(node) in ("idle", "mix", "alloc")
        return False

    def _wait(self, ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            for name, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{name} ended by itself\n{self.logs()}"
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.logs()}"
            time.sleep(0.1)

    def _launch(self, program: str, *arguments: str, name: str = "") -> None:
        """Start a daemon in the foreground, so that its number is known; it dies with this one."""
        name = name or program
        path = shutil.which(program, path=SEARCH)
        with (self.root / "log" / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", path, *arguments],
                env={
                    **self.environment(),
                    "PATH": SEARCH,
                    "SLURM_CONF": f"{self.root}/etc/slurm.conf",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                start_new_session=True,
            )

    def _configure(self) -> None:
        for folder in ("bin", "etc", "run", "log", "state"):
            (self.root / folder).mkdir()
        (self.root / "etc/munge.key").touch(0o600)
        (self.root / "etc/munge.key").write_bytes(os.urandom(1024))
        user = psutil.Process().username()
        ports = free_ports(1 + len(self.nodes))
        lines = [CONFIGURATION.format(user=user, root=self.root, port=next(ports))]
        for node in self.nodes:
            (self.root / f"spool/n{node}").mkdir(parents=True)
            lines.append(
                f"NodeName=n{node} NodeHostname=localhost Port={next(ports)} "
                "CPUs=4 RealMemory=64000 Gres=gpu:1 State=UNKNOWN\n"
            )
        lines += [
            f"PartitionName={name} Nodes=ALL MaxTime=1440 DefaultTime=10 {options}\n"
            for name, options in PARTITIONS.items()
        ]
        (self.root / "etc/slurm.conf").write_text("".join(lines))
        # What stands for a GPU is a device whose name ends in its number.
        device = self.root / "nvidia0"
        device.symlink_to(os.devnull)
        (self.root / "etc/gres.conf").write_text(
            "".join(f"NodeName=n{node} Name=gpu File={device}\n" for node in self.nodes)
        )
        # Snakemake's plugin takes SLURM_CONF out of the environment of its clients.
        for name in CLIENTS:
            script = self.root / "bin" / name
            script.write_text(
                f"#!/bin/sh\nSLURM_CONF={self.root}/etc/slurm.conf exec "
                f'{shutil.which(name, path=SEARCH)} "$@"\n'
            )
            script.chmod(0o755)


def free_ports(count: int) -> Iterator[int]:
    """Yield ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        ports = [entry.getsockname()[1] for entry in sockets]
    return iter(ports)

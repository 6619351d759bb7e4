"""The study on a real SLURM through the shipped profile: whatever happens, the same results."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from slurm.cluster import missing
from workflow.study import REPOSITORY, RULE, Study, assert_same_tables, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PROFILE = REPOSITORY / "profiles/slurm"
SECONDS = 540
# Four runs, a job each. Their network sleeps in each step until the test has seen what it waits for
# and wakes it, so that the trainings last as long as they have to on any machine.
RUNS = ["w2_s0", "w2_s1", "w2_s2", "w2_s3"]
LONG = {"widths": [2], "seeds": [0, 1, 2, 3], "epochs": 600, "snapshots": [300]}
LONG |= {"evaluate_every": 300, "batch_size": 50, "network": "sleepy:network"}
SLEEPY = """
import os, time
from smoothdescent.networks.convnet import ConvNet


class Sleepy(ConvNet):
    def forward(self, x):
        if self.training and not os.path.exists(os.environ.get("AWAKE", "/")):
            time.sleep(0.5)
        return super().forward(x)


def network(width, num_classes, image_size):
    return Sleepy(width, num_classes, image_size)
"""


class ClusterStudy(Study):
    """A study whose jobs run on a cluster, with account and partitions as a user gives them."""

    def __init__(self, folder, cluster, *options, partition="gpu"):
        super().__init__(folder)
        self.cluster, self.options = cluster, options
        (folder / "mine").mkdir()
        choice = f"{partition!r} if 'width' in wildcards.keys() else 'cpu'"
        mine = {"default-resources": {"slurm_account": "none", "slurm_partition": choice}}
        (folder / "mine/config.yaml").write_text(yaml.safe_dump(mine))

    def command(self, *arguments):
        """Return a command line that submits to the cluster."""
        snakemake = Path(sys.executable).with_name("snakemake")
        profiles = ["--workflow-profile", PROFILE, "--profile", self.folder / "mine"]
        # Jobs are short here, so that looks at them may be frequent.
        looks = ["--slurm-init-seconds-before-status-checks", "2", *self.options]
        return [snakemake, "--snakefile", REPOSITORY / "Snakefile", *profiles, *looks, *arguments]

    def start(self, *arguments):
        """Start Snakemake; trainings sleep until `wake`."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **self.cluster.environment(),
                "OMP_NUM_THREADS": "1",
                "AWAKE": str(self.folder / "awake"),
            },
            start_new_session=True,
        )

    def wake(self):
        """Let the trainings, also those to come, run at full speed."""
        (self.folder / "awake").touch()

    def finish(self, process):
        """Wait for Snakemake, which must succeed, and return what it has printed."""
        printed = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, printed
        return printed

    def holder(self, run, process, *, not_job=None):
        """Wait until a job has trained a run for some time, and return what its lease says."""
        deadline = time.monotonic() + SECONDS
        lease = self.results / f"runs/{run}.lease"
        state = self.results / f"runs/{run}/state.safetensors"
        since = time.time()
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            try:
                holder = json.loads(lease.read_text())
                fresh = state.stat().st_mtime > since
            except (FileNotFoundError, json.JSONDecodeError):
                fresh = False
            if fresh and holder["job"] != not_job:
                return holder
            time.sleep(0.1)
        raise AssertionError(f"no job has trained {run}")

    def log(self, run):
        """Return what all jobs of a run have logged."""
        return (self.results / f"runs/{run}.log").read_text()


def prepare(study):
    study.config["autosave_minutes"] = 0.5 / 60
    (study.folder / "sleepy.py").write_text(SLEEPY)
    study.set(**LONG)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The long study, run on this machine without a cluster."""
    if lacking := missing():
        pytest.skip(lacking)
    study = Study(tmp_path_factory.mktemp("undisturbed"))
    prepare(study)
    study.run(*study.tables)
    return study


def one_training(study):
    return f"{study.results.relative_to(study.folder)}/runs/w2_s0/history.parquet"


def assert_same_weights(study, other):
    path = f"runs/w2_s0/snapshots/e{LONG['epochs']}.safetensors"
    assert (study.results / path).read_bytes() == (other.results / path).read_bytes()


def node_of(cluster, holder):
    return int(cluster.jobs()[holder["job"]].node.removeprefix("n"))


def test_the_whole_study(cluster, tmp_path, finished_study):
    study = ClusterStudy(tmp_path, cluster)
    study.finish(study.start())
    assert_same_tables(study, finished_study)
    assert (tmp_path / "results/demo/verdict.md").exists()
    jobs = [job for job in cluster.jobs().values() if "rule_train_" in job.comment]
    assert len(jobs) == len(list(finished_study.results.glob("runs/*/history.parquet")))
    assert {job.state for job in jobs} == {"COMPLETED"}


def test_jobs_and_nodes_are_lost(large_cluster, tmp_path, undisturbed):
    cluster = large_cluster
    study = ClusterStudy(tmp_path, cluster)
    prepare(study)
    process = study.start(*study.tables)
    cancelled, killed, downed, lost = (study.holder(run, process) for run in RUNS)
    nodes = [node_of(cluster, downed), node_of(cluster, lost)]
    cluster.scancel(cancelled["job"])
    os.kill(killed["pid"], signal.SIGKILL)
    cluster.node_down(nodes[0])
    cluster.kill_slurmd(nodes[1])
    for run in (RUNS[0], RUNS[2]):
        wait_until(lambda: "stopped by SIGTERM" in study.log(run), process)  # noqa: B023
    study.wake()
    printed = study.finish(process)
    assert_same_tables(study, undisturbed)
    for run in RUNS[:3]:
        assert "resumed from" in study.log(run), printed
    jobs = [line for line in study.log(RUNS[3]).splitlines() if "SLURM job" in line]
    assert len(jobs) > 1, "the run of the lost node was given to another job as well"


def test_snakemake_is_killed(large_cluster, tmp_path, undisturbed):
    """Its jobs run on; the same command submits them again, and both are for the same runs."""
    cluster = large_cluster
    study = ClusterStudy(tmp_path, cluster)
    prepare(study)
    process = study.start(one_training(study))
    holder = study.holder(RUNS[0], process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    orphans = subprocess.run(
        [sys.executable, "-m", "smoothdescent", "orphans"],
        cwd=tmp_path,
        env=cluster.environment(),
        text=True,
        capture_output=True,
    )
    assert orphans.returncode == 1 and f"scancel {holder['job']}" in orphans.stdout
    unlocked = study.start("--unlock")
    study.finish(unlocked)
    process = study.start(one_training(study))
    wait_until(lambda: f"in use by SLURM job {holder['job']}" in study.log(RUNS[0]), process)
    study.wake()
    study.finish(process)
    assert cluster.jobs()[holder["job"]].state == "COMPLETED"
    assert_same_weights(study, undisturbed)


def test_time_is_up_again_and_again(cluster, tmp_path, undisturbed):
    # SLURM looks at its clock every half minute, and gives a job no less than one.
    sooner = f"train_{RULE}:slurm_extra='--signal=TERM@20 --open-mode=append'"
    study = ClusterStudy(tmp_path, cluster, "--retries=12", f"--set-resources={sooner}")
    prepare(study)
    study.config["longest_job_hours"] = 1 / 60
    study.write()
    process = study.start(one_training(study))
    study.holder(RUNS[0], process)
    wait_until(lambda: study.log(RUNS[0]).count("stopped by SIGTERM") >= 2, process)
    study.wake()
    study.finish(process)
    assert study.log(RUNS[0]).count("resumed from") >= 2
    assert_same_weights(study, undisturbed)


def test_a_job_makes_room_for_another(cluster, tmp_path, undisturbed):
    study = ClusterStudy(tmp_path, cluster, partition="spare")
    prepare(study)
    process = study.start(one_training(study))
    holder = study.holder(RUNS[0], process)
    node = cluster.jobs()[holder["job"]].node
    cluster.submit("sleep 5", "--partition=gpu", "--gpus=1", f"--nodelist={node}")
    wait_until(lambda: "stopped by SIGTERM" in study.log(RUNS[0]), process)
    study.wake()
    study.finish(process)
    assert "stopped by SIGTERM" in study.log(RUNS[0])
    assert "resumed from" in study.log(RUNS[0])
    assert_same_weights(study, undisturbed)

# The configuration in force, where files are, and what a job's result depends on.

import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

SOURCE = Path(str(workflow.current_basedir)).parents[1] / "src"
sys.path.insert(0, str(SOURCE))

from smoothdescent.config.load import as_in_a_file, dump, overrides, resolve
from smoothdescent.config.preflight import check_images, check_imports
from smoothdescent.data.sources import source_files
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES, figures_of, shown_experiments
from smoothdescent.figures.captions import caption, heading
from smoothdescent.files import canonical_json
from smoothdescent.layout import history_path, run_name, sharpness_path, snapshot_path
from smoothdescent.plan.forecast import Calibration, job_memory, job_name, job_seconds
from smoothdescent.products import damaged

# Jobs find the package in this checkout. They run in Snakemake's own Python, also when its
# environment is not activated, unless rules are given conda environments. They take the place of
# their shell (exec), which would not wait for a training that saves when a signal comes to both.
FOLDERS = {"PYTHONPATH": [str(SOURCE)]}
if not any("conda" in str(m).lower() for m in workflow.deployment_settings.deployment_method):
    FOLDERS["PATH"] = [str(Path(sys.executable).parent)]
shell.prefix(
    "".join(
        f"export {name}={shlex.quote(os.pathsep.join(folders + inherited))}; "
        for name, folders in FOLDERS.items()
        for inherited in [list(filter(None, [os.environ.get(name)]))]
    )
)

try:
    SETTINGS = as_in_a_file(config, workflow.config_settings.config)
    STUDY = resolve(SETTINGS)
    if workflow.is_main_process:
        for line in overrides(SETTINGS):
            print(line, file=sys.stderr)
        check_images(STUDY, Path(STUDY.results) / STUDY.scale / "data")
        if "PATH" in FOLDERS:
            check_imports(STUDY)
except UserError as error:
    raise WorkflowError(str(error))

RESOLVED = {name: STUDY.resolved(name) for name in STUDY.experiments}
STARTED = time.time()
RUNTIME_SAFETY = 2  # a job asks for so many times the time that it is expected to need
UNPLANNED_MB = 8000  # the memory that it asks for if `snakemake plan` has not been run
MEMORY_STEPS = 3  # so many times that memory in its later attempts
RESULTS = Path(STUDY.results) / STUDY.scale
COSTS_FILE = RESULTS / "costs.json"
COSTS = Calibration.load(COSTS_FILE) if COSTS_FILE.exists() else None
TABLES = ("history", "sharpness")
GPUS = int(STUDY.device != "cpu")  # of a training or measuring job


wildcard_constraints:
    experiment="|".join(STUDY.experiments),
    dataset="|".join(STUDY.datasets),
    figure="|".join([*FIGURES, *STUDY.experiments]),
    width=r"\d+",
    seed=r"\d+",


def data_file(dataset):
    """Return the decoded images of a data set."""
    return RESULTS / "data" / f"{dataset}.safetensors"


def experiment_data(experiment):
    """Return the decoded images of an experiment."""
    return data_file(STUDY.experiments[experiment].data.dataset)


def images(wildcards):
    """Return the decoded images of a job's experiment."""
    return experiment_data(wildcards.experiment)


def dataset_block(wildcards):
    """Return the settings of a data set."""
    return STUDY.datasets[wildcards.dataset].model_dump(mode="json")


def dataset_settings(wildcards):
    """Return the settings of a data set as JSON."""
    return canonical_json(dataset_block(wildcards))


def dataset_file_names(wildcards):
    """Return the names of these files: one that has gone makes the job run again."""
    return [str(file) for file in dataset_files(wildcards)]


def dataset_files(wildcards):
    """Return the files that a data set is read from; none where they are drawn or downloaded."""
    return source_files(dataset_block(wildcards))


def label_settings(wildcards):
    """Return what determines the labels, beside the data, as JSON."""
    return canonical_json(RESOLVED[wildcards.experiment].label_settings)


def table_identity(wildcards):
    """Return what determines an experiment's tables, beside those of its runs, as JSON."""
    settings = RESOLVED[wildcards.experiment].model_dump(mode="json")
    del settings["experiment"]["seeds_per_job"]
    return canonical_json(settings)


def table_settings(wildcards, threads):
    """Return the settings that the tables' job is given (see `job_options` for `threads`)."""
    return canonical_json(RESOLVED[wildcards.experiment].model_dump(mode="json"))


# The outputs of trainings and of their measuring depend on the experiment, which those of one rule
# cannot. So each experiment has rules of its own; with `seeds_per_job`, each group of its seeds has.
# SEEDS lists (experiment, seeds), the seeds being a wildcard where a job has one.
SEEDS = [
    (name, group)
    for name, experiment in STUDY.experiments.items()
    for group in ([["{seed}"]] if experiment.seeds_per_job == 1 else experiment.seed_groups)
]


def rule_name(stage, experiment, seeds):
    """Return the name of the rule that trains or measures some seeds of an experiment."""
    name = f"{stage}_{experiment}"
    return name if seeds == ["{seed}"] else f"{name}_{job_name(None, seeds)}"


def runs(experiment, seeds):
    """Return the folders of a job's runs, as a pattern."""
    return [RESULTS / experiment / "runs" / run_name("{width}", seed) for seed in seeds]


def snapshots(experiment, seeds):
    """Return the snapshots of a job's runs."""
    epochs = STUDY.experiments[experiment].snapshot_epochs
    return [snapshot_path(run, epoch) for run in runs(experiment, seeds) for epoch in epochs]


def histories(experiment, seeds):
    """Return the histories of a job's runs."""
    return [history_path(run) for run in runs(experiment, seeds)]


def checkpoint_tables(experiment, seeds):
    """Return the tables that are measured of a job's runs."""
    epochs = STUDY.experiments[experiment].snapshot_epochs
    return [sharpness_path(run, epoch) for run in runs(experiment, seeds) for epoch in epochs]


def of_all_runs(files, experiment):
    """Return some files of all runs of an experiment."""
    block = STUDY.experiments[experiment]
    return expand(files(experiment, ["{seed}"]), width=block.widths, seed=block.seeds)


def all_histories(wildcards):
    """Return the histories of an experiment's runs."""
    return of_all_runs(histories, wildcards.experiment)


def all_checkpoints(wildcards):
    """Return the tables of an experiment's checkpoints."""
    return of_all_runs(checkpoint_tables, wildcards.experiment)


def runs_folder(wildcards):
    """Return the folder of the folders of an experiment's runs."""
    return str(RESULTS / wildcards.experiment / "runs")


def job_file(folder, experiment, stage, seeds, suffix):
    """Return the log or benchmark of a job that trains or measures."""
    return RESULTS / experiment / folder / stage / f"{job_name('{width}', seeds)}{suffix}"


def job_options(wildcards, threads, experiment, stage, seeds):
    """Return the options of a job that trains or measures some seeds of an experiment.

    The job is given the experiment's settings by value. Snakemake takes a param that depends on
    `threads` for no reason to run a job again: which settings are is told by `params.identity`.
    """
    settings = canonical_json(RESOLVED[experiment].model_dump(mode="json"))
    names = [run_name("{width}", seed).format(**dict(wildcards.items())) for seed in seeds]
    options = ["--settings", settings, "--runs", *names, "--folder", RESULTS / experiment / "runs"]
    options += ["--device", STUDY.device, "--threads", threads]
    if stage == "train":
        options += ["--autosave-minutes", STUDY.autosave_minutes]
    else:
        options += ["--memory", STUDY.memory]
    return shlex.join(map(str, options))


def job_message(stage, experiment, seeds):
    """Return what Snakemake prints of a job, in place of the names of all its files."""
    job = job_name("{wildcards.width}", [str(s).replace("{", "{wildcards.") for s in seeds])
    epochs = STUDY.experiments[experiment].snapshot_epochs
    done = {
        "train": f"Training {job} of {experiment} to epoch {epochs[-1]}",
        "measure": f"Measuring {len(epochs)} checkpoints of {job} of {experiment}",
    }
    return f"{done[stage]}; log: {{log}}"


def job_minutes(wildcards, attempt, experiment, stage, seeds):
    """Return the time that a job asks for on a cluster, from `snakemake plan`'s costs."""
    longest = 60 * STUDY.longest_job_hours
    if COSTS is None or experiment not in COSTS.experiments:
        return int(longest)
    resolved, width = STUDY.experiments[experiment], int(wildcards.width)
    seconds = job_seconds(COSTS, resolved, experiment, width, len(seeds), stage)
    return int(min(longest, 10 + attempt * RUNTIME_SAFETY * seconds / 60))


def job_megabytes(wildcards, attempt, experiment):
    """Return the main memory that a training or measuring job asks for on a cluster."""
    megabytes = UNPLANNED_MB
    if COSTS is not None and experiment in COSTS.experiments:
        # Two processes of Snakemake are in the job too.
        megabytes = 1000 + 1.25 * job_memory(COSTS.experiments[experiment]) / 1e6
    return int(min(attempt, MEMORY_STEPS) * megabytes)

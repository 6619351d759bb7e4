# The configuration in force, where files are, and what a job's result depends on.

import os
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))

from smoothdescent.config.load import dump, resolve
from smoothdescent.errors import UserError
from smoothdescent.figures import FIGURES, figures_of, shown_experiments
from smoothdescent.figures.captions import caption, heading
from smoothdescent.files import canonical_json, write_text
from smoothdescent.plan.forecast import Calibration, job_memory, job_seconds

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
    STUDY = resolve(config)
except UserError as error:
    raise WorkflowError(str(error))

STARTED = time.time()
GREATER = 2  # a job asks for so many times the time that it is expected to need
UNPLANNED_MB = 8000  # the memory that it asks for if `snakemake plan` has not been run
MOST_TIMES = 3  # so many times that memory in its later attempts
RESULTS = Path(STUDY.results) / STUDY.scale
EXPERIMENT = RESULTS / "{experiment}"
# What jobs leave behind: receipts that say how far their runs are. What the runs have computed is in
# EXPERIMENT / "runs", which no rule declares, because Snakemake deletes what rules declare.
TRAINED = EXPERIMENT / "training" / "{pack}_e{end}.json"
MEASURED = EXPERIMENT / "measuring" / "{pack}_e{end}.json"
LOGS = EXPERIMENT / "logs"
BENCHMARKS = EXPERIMENT / "benchmarks"
TABLES = ("history", "sharpness")
STUDY_FILE = RESULTS / "study.yaml"
COSTS_FILE = RESULTS / "costs.json"
COSTS = Calibration.load(COSTS_FILE) if COSTS_FILE.exists() else None
PACKS = {name: STUDY.packs(name) for name in STUDY.experiments}


wildcard_constraints:
    experiment="|".join(STUDY.experiments),
    dataset="|".join(STUDY.datasets),
    figure="|".join([*FIGURES, *STUDY.experiments]),
    pack=r"w\d+_s\d+(-w\d+_s\d+)?",
    end=r"\d+",


def block(wildcards):
    """Return the experiment that a job belongs to."""
    return STUDY.experiments[wildcards.experiment]


def fill(pattern, wildcards):
    """Return a path pattern with a job's wildcards filled in."""
    return str(pattern).format(**dict(wildcards.items()))


def data_file(wildcards):
    """Return the decoded data set of a job's experiment."""
    return f"{RESULTS}/data/{block(wildcards).data.dataset}.safetensors"


def data_identity(wildcards):
    """Return a hash of what determines a decoded data set."""
    return STUDY.data_identity(wildcards.dataset)


def data_settings(wildcards):
    """Return the file with a data set's block, which also says where its images lie."""
    return str(RESULTS / "data" / f"{wildcards.dataset}.json")


def label_settings(wildcards):
    """Return what determines the labels, beside the data, as JSON."""
    return canonical_json(STUDY.label_settings(wildcards.experiment))


def training_identity(wildcards):
    """Return a hash of what determines the weights after a given epoch."""
    return STUDY.training_identity(wildcards.experiment)


def measure_identity(wildcards):
    """Return a hash of what determines the sharpness of given weights."""
    return STUDY.measure_identity(wildcards.experiment)


def table_identity(wildcards):
    """Return what the aggregated tables depend on beside the tables of the runs."""
    experiment = block(wildcards)
    return f"{experiment.measure.hessian} {experiment.threshold_accuracy}"


def config_file(wildcards):
    """Return the file of an experiment's resolved configuration.

    It is no input: what makes a job run again are the hashes of the keys that it depends on.
    """
    return fill(EXPERIMENT / "config.yaml", wildcards)


def write_configurations():
    """Put the configuration in force beside the results of every experiment and data set."""
    texts = {STUDY_FILE: dump(STUDY)}
    for name, experiment in STUDY.experiments.items():
        texts[RESULTS / name / "config.yaml"] = dump(STUDY.restricted_to(name))
        dataset = experiment.data.dataset
        settings = STUDY.datasets[dataset].model_dump(mode="json")
        texts[RESULTS / "data" / f"{dataset}.json"] = canonical_json(settings)
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            write_text(path, text)


def trained_before(wildcards):
    """Return the receipt of the segment before; none for the first."""
    start = block(wildcards).segment_start(int(wildcards.end))
    receipt = str(TRAINED).replace("{end}", str(start))
    return [fill(receipt, wildcards)] if start else []


def pack_runs(wildcards):
    """Return the runs that a job trains or measures."""
    return " ".join(PACKS[wildcards.experiment][wildcards.pack])


def runs_folder(wildcards):
    """Return the folder of the folders of an experiment's runs."""
    return fill(EXPERIMENT / "runs", wildcards)


def experiment_folder(wildcards):
    """Return the folder of an experiment's results."""
    return f"{RESULTS}/{wildcards.experiment}"


def figure_stem(wildcards):
    """Return a figure's file without its suffix."""
    return f"{RESULTS}/figures/{wildcards.figure}"


def snapshot_epochs(wildcards):
    """Return the epochs whose weights are kept up to a segment's end."""
    return " ".join(map(str, block(wildcards).snapshot_epochs(int(wildcards.end))))


def receipts(wildcards, pattern, ends):
    """Return the receipts of all jobs of an experiment, for some ends of segments."""
    packs = PACKS[wildcards.experiment]
    return expand(pattern, experiment=wildcards.experiment, pack=packs, end=ends)


def job_minutes(wildcards, attempt, kind):
    """Return the time that a job asks for on a cluster, from `snakemake plan`'s costs."""
    longest = 60 * STUDY.longest_job_hours
    name, end = wildcards.experiment, int(wildcards.end)
    if COSTS is None or name not in COSTS.experiments:
        return int(longest)
    seconds = job_seconds(COSTS, STUDY, name, wildcards.pack, end, kind)
    return int(min(longest, 10 + attempt * GREATER * seconds / 60))


def training_minutes(wildcards, attempt):
    """Return the time that a training job asks for."""
    return job_minutes(wildcards, attempt, "train")


def measuring_minutes(wildcards, attempt):
    """Return the time that a measuring job asks for."""
    return job_minutes(wildcards, attempt, "measure")


def job_megabytes(wildcards, attempt):
    """Return the main memory that a training or measuring job asks for on a cluster."""
    megabytes = UNPLANNED_MB
    if COSTS is not None and wildcards.experiment in COSTS.experiments:
        # Two processes of Snakemake are in the job too.
        megabytes = 1000 + 1.25 * job_memory(COSTS.experiments[wildcards.experiment]) / 1e6
    return int(min(attempt, MOST_TIMES) * megabytes)


def all_trained(wildcards):
    """Return the receipts of the last segments."""
    return receipts(wildcards, TRAINED, [block(wildcards).epochs])


def all_measured(wildcards):
    """Return the receipts of measuring, while the training goes on or at its end."""
    experiment = block(wildcards)
    every = STUDY.measure_after == "segment"
    return receipts(wildcards, MEASURED, experiment.boundaries if every else [experiment.epochs])


def figure_file(name, suffix):
    """Return the file of a figure."""
    return f"{RESULTS}/figures/{name}.{suffix}"


def figure_experiments(name):
    """Return the experiments of the study that a figure shows."""
    return [name for name in shown_experiments(name) if name in STUDY.experiments]


def all_tables():
    """Return the tables of all experiments of the study."""
    return expand(EXPERIMENT / "{table}.parquet", experiment=STUDY.experiments, table=TABLES)


def figure_tables(wildcards):
    """Return the tables that a figure reads."""
    return expand(
        EXPERIMENT / "{table}.parquet",
        experiment=figure_experiments(wildcards.figure),
        table=TABLES,
    )


def figure_folders(wildcards):
    """Return the folders of the experiments that a figure shows."""
    return [f"{RESULTS}/{experiment}" for experiment in figure_experiments(wildcards.figure)]


def figure_labels(wildcards):
    """Return what the report lists of a figure."""
    return {"figure": wildcards.figure, "shows": heading(wildcards.figure)}


def name_new_figures():
    """Say which figures this invocation has drawn."""
    names = figures_of(STUDY.experiments)
    files = [figure_file(name, suffix) for name in names for suffix in ("pdf", "png")]
    new = [f for f in files if os.path.exists(f) and os.path.getmtime(f) >= STARTED]
    if new:
        print("Figures drawn:", *new, sep="\n  ")
    verdict = RESULTS / "verdict.md"
    if verdict.exists() and verdict.stat().st_mtime >= STARTED:
        print(f"Verdict on the paper's findings: {verdict}")

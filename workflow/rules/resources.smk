# What jobs ask of a cluster, from `snakemake plan`'s costs where it has been run.

RUNTIME_SAFETY = 2  # a job asks for so many times the time that it is expected to need
UNPLANNED_MB = 8000  # the memory that it asks for if `snakemake plan` has not been run
MEMORY_STEPS = 3  # so many times that memory in its later attempts
COSTS_FILE = here(RESULTS / "costs.json")
COSTS = None
if COSTS_FILE.exists():
    try:
        COSTS = Calibration.load(COSTS_FILE)
    except UserError as error:
        print(f"{error}; jobs ask for the longest time", file=sys.stderr)
GPUS = int(STUDY.device != "cpu")  # of a training or measuring job
# SLURM sends TERM three minutes before a job's time is up: a training saves, ends and is submitted
# again. The job's log is not wiped when SLURM puts it back into the queue.
SLURM_EXTRA = "--signal=TERM@180 --open-mode=append"


def light_megabytes(wildcards, attempt):
    """Return the main memory that a job asks for which neither trains nor measures."""
    return min(attempt, MEMORY_STEPS) * 4000  # 1000 are for Snakemake in the job


# What all other jobs ask for.
LIGHT = {"runtime": 120, "mem_mb": light_megabytes, "gpu": 0}


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

# Where files are, and what a job's result depends on.

TABLES = (*SUMMARIES, "samples")


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
    return str(experiment_data(wildcards.experiment))


def dataset_block(wildcards):
    """Return the settings of a data set."""
    return STUDY.datasets[wildcards.dataset].model_dump(mode="json")


def dataset_settings(wildcards):
    """Return the settings of a data set as JSON."""
    return canonical_json(dataset_block(wildcards))


def dataset_files(wildcards):
    """Return the files that a data set is read from; none where they are drawn or downloaded.

    They are where the configuration says, whatever the prefix or the storage of products is.
    """
    return [local(str(file)) for file in source_files(dataset_block(wildcards))]


def dataset_file_names(wildcards):
    """Return the names of these files: one that has gone makes the job run again.

    Where a whole folder of images has gone, what was decoded from it stays in use.
    """
    block = dataset_block(wildcards)
    names = [file.name for file in source_files(block)]
    decoded = here(data_file(wildcards.dataset))
    if not names and block["source"] == "parquet" and decoded.exists():
        names = [file["name"] for file in peek_metadata(decoded)["files"]]
    return sorted(names)


def label_settings(wildcards):
    """Return what determines the labels, beside the data, as JSON."""
    return canonical_json(RESOLVED[wildcards.experiment].label_settings)


def table_identity(wildcards):
    """Return a hash of what determines an experiment's tables, beside those of its runs."""
    return RESOLVED[wildcards.experiment].identity


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
    """Return the name of the rule that trains or measures some seeds of an experiment.

    It is a Python name, for `rules.<name>` and for Snakemake's generated unit tests.
    """
    name = f"{stage}_{experiment}"
    name = name if seeds == ["{seed}"] else f"{name}_{job_name(None, seeds)}"
    return rule_part(name)


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


def folders(wildcards, input):
    """Return the folders of a job's inputs."""
    return list(dict.fromkeys(map(os.path.dirname, input)))


def runs_folder(wildcards, input):
    """Return the folder of the folders of an experiment's runs."""
    return str(Path(input.histories[0]).parents[1])


def job_file(folder, experiment, stage, seeds, suffix):
    """Return the log or benchmark of a job that trains or measures."""
    return RESULTS / experiment / folder / stage / f"{job_name('{width}', seeds)}{suffix}"


def job_options(wildcards, output, threads, experiment, stage, seeds):
    """Return the options of a job that trains or measures some seeds of an experiment.

    The job is given the experiment's settings by value. Snakemake takes a param that depends on
    `threads` for no reason to run a job again: which settings are is told by `params.identity`.
    """
    settings = canonical_json(RESOLVED[experiment].model_dump(mode="json"))
    names = [run_name("{width}", seed).format(**dict(wildcards.items())) for seed in seeds]
    options = ["--settings", settings, "--runs", *names, "--folder", Path(output[0]).parents[2]]
    options += ["--device", STUDY.device, "--threads", threads]
    if stage == "train":
        options += ["--autosave-minutes", STUDY.autosave_minutes]
        options += ["--deterministic"] if STUDY.deterministic else []
    elif STUDY.memory is not None:
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

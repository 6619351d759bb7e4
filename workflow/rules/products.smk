# The files that the study makes: of figures, of runs, and all of them.


def figure_file(name, suffix):
    """Return the file of a figure."""
    return RESULTS / "figures" / f"{name}.{suffix}"


def figure_experiments(name):
    """Return the experiments of the study that a figure shows."""
    return [name for name in shown_experiments(name) if name in STUDY.experiments]


def tables_of(experiments):
    """Return the tables of some experiments."""
    return [RESULTS / name / f"{table}.parquet" for name in experiments for table in TABLES]


def figure_tables(wildcards):
    """Return the tables that a figure reads."""
    return tables_of(figure_experiments(wildcards.figure))


def figure_folders(wildcards):
    """Return the folders of the experiments that a figure shows."""
    return [str(RESULTS / experiment) for experiment in figure_experiments(wildcards.figure)]


def figure_labels(wildcards):
    """Return what the report lists of a figure."""
    return {"figure": wildcards.figure, "shows": heading(wildcards.figure)}


def figure_files():
    """Return the files of all figures of the study."""
    names = figures_of(list(STUDY.experiments))
    suffixes = ("pdf", "png", "parquet", "md")
    return [figure_file(name, suffix) for name in names for suffix in suffixes]


def run_products(experiment, width, seed):
    """Return the files of a training job and of a measuring job, with what each says of itself."""
    run = RESULTS / experiment / "runs" / run_name(width, seed)
    facts = {"experiment": experiment, "width": str(width), "seed": str(seed)}
    epochs = {e: {**facts, "epoch": str(e)} for e in STUDY.experiments[experiment].snapshot_epochs}
    trained = {snapshot_path(run, epoch): epochs[epoch] for epoch in epochs}
    measured = {sharpness_path(run, epoch): epochs[epoch] for epoch in epochs}
    return [{**trained, history_path(run): facts}, measured]


def products():
    """Return all files that the study makes, job by job, with what each says of itself."""
    groups = [{experiment_data(name): {}} for name in STUDY.experiments]
    for name, block in STUDY.experiments.items():
        folder = RESULTS / name
        settings = canonical_json(RESOLVED[name].label_settings)
        groups.append({folder / "labels.parquet": {"settings": settings}})
        for width in block.widths:
            for seed in block.seeds:
                groups += run_products(name, width, seed)
        tables = {folder / f"{t}.parquet": {"table": t, "experiment": name} for t in TABLES}
        groups.append({**tables, folder / "config.yaml": {}})
    groups += [{file: {}} for file in figure_files()]
    groups.append({RESULTS / f"verdict.{suffix}": {} for suffix in ("parquet", "md", "html")})
    groups.append({RESULTS / "explore.html": {}})
    return groups


def everything(wildcards):
    """Return all products; those that are damaged are made again, as if `--forcerun` named them.

    Snakemake itself looks at the dates of files alone.
    """
    groups = products()
    found = damaged(groups)
    for path, reason in found.items():
        print(f"{path} {reason}; it will be made again", file=sys.stderr)
    workflow.dag.forcefiles.update(map(str, found))
    return [path for group in groups for path in group]


def name_new_figures():
    """Say which figures this invocation has drawn."""
    new = [f for f in figure_files() if f.exists() and f.stat().st_mtime >= STARTED]
    if new:
        print("Figures drawn:", *(f for f in new if f.suffix in (".pdf", ".png")), sep="\n  ")
    verdict = RESULTS / "verdict.md"
    if verdict.exists() and verdict.stat().st_mtime >= STARTED:
        print(f"Verdict on the paper's findings: {verdict}")
    page = RESULTS / "explore.html"
    if page.exists() and page.stat().st_mtime >= STARTED:
        print(f"All of it on one interactive page: {page}")

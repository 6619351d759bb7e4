# The files that the study makes: of figures, of runs, and all of them.


def figure_file(name, suffix):
    """Return the file of a figure."""
    return RESULTS / "figures" / f"{name}.{suffix}"


def figure_experiments(name):
    """Return the experiments of the study that a figure shows."""
    return [name for name in shown_experiments(name) if name in STUDY.experiments]


def tables_of(experiments, tables=TABLES):
    """Return tables of some experiments; default: all."""
    return [RESULTS / name / f"{table}.parquet" for name in experiments for table in tables]


def figure_tables(wildcards):
    """Return the tables that a figure reads."""
    return [str(path) for path in tables_of(figure_experiments(wildcards.figure), SUMMARIES)]


def figure_labels(wildcards, file):
    """Return what the report lists of a file of a figure."""
    return {"figure": wildcards.figure, "shows": heading(wildcards.figure), "file": file}


def named(name):
    """Return what the name of an experiment or of a figure stands for as a target."""
    figure = [figure_file(name, "pdf")] if name in figures_of(list(STUDY.experiments)) else []
    return figure + (tables_of([name]) if name in STUDY.experiments else [])


def figure_files():
    """Return the files of all figures of the study."""
    names = figures_of(list(STUDY.experiments))
    suffixes = ("pdf", "png", "parquet", "md")
    return [figure_file(name, suffix) for name in names for suffix in suffixes]


def run_products(experiment, width, seed):
    """Return the files of a training job and of a measuring job, with what each says of itself."""
    run = RESULTS / experiment / "runs" / run_name(width, seed)
    resolved = RESOLVED[experiment]
    facts = {"experiment": experiment, "width": str(width), "seed": str(seed)}
    facts["training_identity"] = resolved.training_identity
    epochs = {e: {**facts, "epoch": str(e)} for e in resolved.experiment.snapshot_epochs}
    measuring = {"measuring_identity": resolved.measuring_identity}
    trained = {snapshot_path(run, epoch): epochs[epoch] for epoch in epochs}
    measured = {sharpness_path(run, epoch): epochs[epoch] | measuring for epoch in epochs}
    return [{**trained, history_path(run): facts}, measured]


def products():
    """Return all files that the study makes, job by job, with what each says of itself."""
    used = {block.data.dataset for block in STUDY.experiments.values()}
    groups = [{data_file(name): {"name": name}} for name in sorted(used)]
    for name, block in STUDY.experiments.items():
        folder = RESULTS / name
        settings = canonical_json(RESOLVED[name].label_settings)
        groups.append({folder / "labels.parquet": {"settings": settings}})
        for width in block.widths:
            for seed in block.seeds:
                groups += run_products(name, width, seed)
        facts = {"experiment": name, "config_hash": RESOLVED[name].identity}
        tables = {folder / f"{t}.parquet": {"table": t, **facts} for t in TABLES}
        groups.append({**tables, folder / "config.yaml": {}})
    for name in figures_of(list(STUDY.experiments)):
        table = {figure_file(name, "parquet"): {"figure": name}}
        drawn = {figure_file(name, suffix): {} for suffix in ("pdf", "png", "md")}
        groups.append({**table, **drawn})
    verdict = {RESULTS / "verdict.parquet": {"table": "verdict"}}
    groups.append({**verdict, RESULTS / "verdict.md": {}, RESULTS / "verdict.html": {}})
    groups.append({RESULTS / "explore.html": {}})
    return groups


def everything(wildcards):
    """Return all products; those that are damaged are made again, as if `--forcerun` named them.

    Snakemake itself looks at the dates of files alone.
    """
    groups = products()
    found = damaged([{here(path): facts for path, facts in group.items()} for group in groups])
    for path, reason in found.items():
        print(f"{path} {reason}; it will be made again", file=sys.stderr)
    workflow.dag.forcefiles.update(map(str, found))
    name_trainings_again()
    # Paths as text: the rules of a parent workflow may take them from `rules.*.input`.
    return [str(path) for group in groups for path in group]


def name_trainings_again():
    """Say which trained runs lack snapshots, to whose epochs they are trained again, and the cost."""
    for name, block in STUDY.experiments.items():
        folder = here(RESULTS / name / "runs")
        epochs = [
            (width, trained_again(folder / run_name(width, seed), RESOLVED[name]))
            for width in block.widths
            for seed in block.seeds
        ]
        again = [(width, epoch) for width, epoch in epochs if epoch]
        if not again:
            continue
        cost = "`snakemake plan` says what that costs"
        if COSTS is not None and name in COSTS.experiments:
            seconds = sum(training_seconds(COSTS.experiments[name], *pair) for pair in again)
            cost = f"that costs {duration(seconds)}"
        print(
            f"{name}: {len(again)} trained runs lack snapshots up to epoch "
            f"{max(epoch for _, epoch in again)}, and train again from the beginning to there; "
            f"what is there is kept; {cost}",
            file=sys.stderr,
        )


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

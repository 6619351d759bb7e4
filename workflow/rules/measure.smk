# Sharpness of the snapshots, one table each, and the tables of an experiment.

for experiment, seeds in SEEDS:

    rule:
        name:
            rule_name("measure", experiment, seeds)
        input:
            data=experiment_data(experiment),
            labels=RESULTS / experiment / "labels.parquet",
            snapshots=snapshots(experiment, seeds),
        output:
            update(checkpoint_tables(experiment, seeds)),
        log:
            job_file("logs", experiment, "measure", seeds, ".log"),
        benchmark:
            job_file("benchmarks", experiment, "measure", seeds, ".tsv")
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.threads
        resources:
            runtime=partial(job_minutes, experiment=experiment, stage="measure", seeds=seeds),
            mem_mb=partial(job_megabytes, experiment=experiment),
            gpu=GPUS,
            slurm_extra=SLURM_EXTRA,
        params:
            program=program,
            identity=identity(experiment, "measure"),
            final_epochs=str(STUDY.experiments[experiment].final_epochs),
            options=partial(job_options, experiment=experiment, stage="measure", seeds=seeds),
        message:
            job_message("measure", experiment, seeds)
        shell:
            watched(
                "{params.program} measure-runs {params.options} --data {input.data:q}"
                " --labels {input.labels:q}"
            )


rule gather_tables:
    input:
        labels=RESULTS / "{experiment}/labels.parquet",
        histories=all_histories,
        checkpoints=all_checkpoints,
    output:
        **{
            name: report(
                RESULTS / "{experiment}" / file,
                caption="../report/tables.rst",
                category="Tables",
                labels={"experiment": "{experiment}", "file": file},
            )
            for name, file in (
                ("history", "history.parquet"),
                ("sharpness", "sharpness.parquet"),
                ("config", "config.yaml"),
            )
        },
        # Not in the report, which holds its files.
        samples=RESULTS / "{experiment}/samples.parquet",
    log:
        RESULTS / "{experiment}/logs/gather_tables.log",
    benchmark:
        RESULTS / "{experiment}/benchmarks/gather_tables.tsv"
    conda:
        "../../envs/figures.yaml"
    resources:
        **LIGHT,
    params:
        program=program,
        identity=table_identity,
        settings=table_settings,
        runs=runs_folder,
    message:
        "Gathering the tables of {wildcards.experiment}; log: {log}"
    shell:
        "{params.program} tables --settings {params.settings:q}"
        " --labels {input.labels:q} --folder {params.runs:q}"
        " --output-history {output.history:q} --output-sharpness {output.sharpness:q}"
        " --output-samples {output.samples:q} --output-config {output.config:q}"
        " > {log:q} 2>&1"

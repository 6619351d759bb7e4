# One job trains a run, or with `seeds_per_job` some seeds of a width. Its outputs stay when it starts
# and when it fails (`update`, and `keep-incomplete` in the profiles): what is there and right is not
# computed again, and the training state beside them makes a job resume.

for experiment, seeds in SEEDS:

    rule:
        name:
            rule_name("train", experiment, seeds)
        input:
            data=experiment_data(experiment),
            labels=RESULTS / experiment / "labels.parquet",
        output:
            snapshots=update(snapshots(experiment, seeds)),
            histories=update(histories(experiment, seeds)),
        log:
            job_file("logs", experiment, "train", seeds, ".log"),
        benchmark:
            job_file("benchmarks", experiment, "train", seeds, ".tsv")
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.threads
        resources:
            runtime=partial(job_minutes, experiment=experiment, stage="train", seeds=seeds),
            mem_mb=partial(job_megabytes, experiment=experiment),
            gpu=GPUS,
            slurm_extra=SLURM_EXTRA,
        params:
            program=program,
            identity=identity(experiment, "train"),
            # A history ends with the last snapshot, and has the exact evaluations that are asked for.
            epochs=str(STUDY.experiments[experiment].snapshot_epochs),
            evaluate_every=STUDY.experiments[experiment].evaluate_every,
            options=partial(job_options, experiment=experiment, stage="train", seeds=seeds),
        message:
            job_message("train", experiment, seeds)
        shell:
            watched(
                "{params.program} train {params.options} --data {input.data:q}"
                " --labels {input.labels:q}"
            )

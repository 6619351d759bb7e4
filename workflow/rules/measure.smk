# Sharpness of the checkpoints, and the tables of an experiment.


# One job measures what a job before it has trained.
rule measure_runs:
    input:
        data=data_file,
        labels=EXPERIMENT / "labels.parquet",
        trained=TRAINED,
    output:
        MEASURED,
    log:
        LOGS / "measure/{pack}_e{end}.log",
    benchmark:
        BENCHMARKS / "measure/{pack}_e{end}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    resources:
        runtime=measuring_minutes,
        mem_mb=job_megabytes,
    params:
        config=config_file,
        identity=measure_identity,
        runs=pack_runs,
        snapshots=snapshot_epochs,
        folder=runs_folder,
    shell:
        "exec python -m smoothdescent measure-runs --config {params.config} --data {input.data}"
        " --labels {input.labels} --runs {params.runs} --until {wildcards.end}"
        " --folder {params.folder} --receipt {output} --threads {threads} >> {log} 2>&1"


rule gather_tables:
    input:
        trained=all_trained,
        measured=all_measured,
    output:
        history=EXPERIMENT / "history.parquet",
        sharpness=EXPERIMENT / "sharpness.parquet",
    log:
        LOGS / "gather_tables.log",
    benchmark:
        BENCHMARKS / "gather_tables.tsv"
    conda:
        "../../envs/figures.yaml"
    params:
        config=config_file,
        identity=table_identity,
        folder=experiment_folder,
    shell:
        "exec python -m smoothdescent tables --config {params.config}"
        " --folder {params.folder} --output-history {output.history}"
        " --output-sharpness {output.sharpness} > {log} 2>&1"

# Sharpness of the checkpoints, and the tables of an experiment.


# One job measures all checkpoints of one segment of one run.
rule measure_segment:
    input:
        data=data_file,
        labels=EXPERIMENT / "labels.parquet",
        snapshots=RUN / "snapshots_e{end}",
    output:
        directory(SHARPNESS / "to_e{end}"),
    log:
        LOGS / "measure/w{width}_s{seed}_e{end}.log",
    benchmark:
        BENCHMARKS / "measure/w{width}_s{seed}_e{end}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    params:
        config=config_file,
        identity=measure_identity,
        volumes=volumes_option,
        done=done_folder,
    shell:
        "python -m smoothdescent measure-run --config {params.config} --data {input.data}"
        " --labels {input.labels} --snapshots {input.snapshots} {params.volumes}"
        " --done {params.done} --output {output} --threads {threads} >> {log} 2>&1"


rule gather_tables:
    input:
        histories=last_histories,
        sharpness=measured,
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
        "python -m smoothdescent tables --config {params.config}"
        " --folder {params.folder} --output-history {output.history}"
        " --output-sharpness {output.sharpness} > {log} 2>&1"

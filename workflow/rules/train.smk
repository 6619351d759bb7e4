# One job trains some runs of an experiment, its pack, up to the end of a segment.


rule train_runs:
    input:
        data=data_file,
        labels=EXPERIMENT / "labels.parquet",
        before=trained_before,
    output:
        TRAINED,
    log:
        LOGS / "train/{pack}_e{end}.log",
    benchmark:
        BENCHMARKS / "train/{pack}_e{end}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    resources:
        runtime=training_minutes,
        mem_mb=job_megabytes,
    params:
        config=config_file,
        identity=training_identity,
        runs=pack_runs,
        snapshots=snapshot_epochs,
        folder=runs_folder,
    shell:
        "exec python -m smoothdescent train --config {params.config} --data {input.data}"
        " --labels {input.labels} --runs {params.runs} --until {wildcards.end}"
        " --folder {params.folder} --receipt {output} --threads {threads} >> {log} 2>&1"

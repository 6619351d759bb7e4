# One job trains one segment of one run: (experiment, width, seed), up to epoch `end`.

LAST_EPOCHS = "|".join(str(e) for e in sorted({b.epochs for b in STUDY.experiments.values()}))


rule train_segment:
    input:
        data=data_file,
        labels=EXPERIMENT / "labels.parquet",
        state=state_before,
    output:
        state=temp(RUN / "state_e{end}.safetensors"),
        snapshots=directory(RUN / "snapshots_e{end}"),
        history=RUN / "history_e{end}.parquet",
    log:
        LOGS / "train/w{width}_s{seed}_e{end}.log",
    benchmark:
        BENCHMARKS / "train/w{width}_s{seed}_e{end}.tsv"
    wildcard_constraints:
        end=rf"(?!(?:{LAST_EPOCHS})\b)\d+",
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    params:
        config=config_file,
        identity=training_identity,
        snapshots=snapshot_epochs,
        state=state_option,
        autosave=autosave_folder,
    shell:
        "python -m smoothdescent train --config {params.config} --data {input.data}"
        " --labels {input.labels} --width {wildcards.width} --seed {wildcards.seed}"
        " --until {wildcards.end} {params.state} --autosave {params.autosave}"
        " --output-state {output.state} --output-snapshots {output.snapshots}"
        " --output-history {output.history} --threads {threads} >> {log} 2>&1"


# The last state is kept: if `epochs` is raised later, the training goes on from it.
use rule train_segment as train_last_segment with:
    output:
        state=RUN / "state_e{end}.safetensors",
        snapshots=directory(RUN / "snapshots_e{end}"),
        history=RUN / "history_e{end}.parquet",
    wildcard_constraints:
        end=LAST_EPOCHS,

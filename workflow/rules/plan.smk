# What is still to be done and what it will cost, from a minute's timing of this machine. The costs
# are kept: jobs on a cluster get their time limits from them.


rule plan:
    input:
        expand(
            RESULTS / "data/{dataset}.safetensors",
            dataset={block.data.dataset for block in STUDY.experiments.values()},
        ),
    log:
        RESULTS / "logs/plan.log",
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    params:
        study=STUDY_FILE,
        data=RESULTS / "data",
        costs=COSTS_FILE,
    shell:
        "exec python -m smoothdescent plan --config {params.study} --data {params.data}"
        " --output {params.costs} --threads {threads} 2> {log}"

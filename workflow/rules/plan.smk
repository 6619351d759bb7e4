# What is still to be done and what it will cost, from a minute's timing of this machine. The costs
# are kept: jobs on a cluster get their time limits from them.


rule plan:
    input:
        [experiment_data(experiment) for experiment in STUDY.experiments],
    log:
        RESULTS / "logs/plan.log",
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.threads
    resources:
        **{**LIGHT, "gpu": GPUS},
    params:
        program=program,
        study=lambda wildcards: canonical_json(
            {**STUDY.model_dump(mode="json"), "results": str(COSTS_FILE.parents[1])}
        ),
        data=lambda wildcards, input: os.path.dirname(input[0]),
        costs=str(COSTS_FILE),
    shell:
        "{params.program} plan --settings {params.study:q} --data {params.data:q}"
        " --output {params.costs:q} --threads {threads} 2> {log:q}"

# The paper's findings, decided from the tables of the study's experiments, and the page that shows
# all of it.


rule decide_verdict:
    input:
        tables_of(STUDY.experiments),
    output:
        parquet=RESULTS / "verdict.parquet",
        md=RESULTS / "verdict.md",
        html=report(
            RESULTS / "verdict.html",
            caption="../report/verdict.rst",
            category="Verdict",
            labels={"page": "verdict on each finding"},
        ),
    log:
        RESULTS / "logs/decide_verdict.log",
    benchmark:
        RESULTS / "benchmarks/decide_verdict.tsv"
    conda:
        "../../envs/figures.yaml"
    params:
        folders=[str(RESULTS / name) for name in STUDY.experiments],
    shell:
        "exec python -m smoothdescent verdict --tables {params.folders}"
        " --output-parquet {output.parquet} --output-md {output.md}"
        " --output-html {output.html} > {log} 2>&1"


rule verdict:
    input:
        rules.decide_verdict.output.md,
    localrule: True


# It is not in the report, which would hold it in an address longer than browsers open in a frame.
rule explore:
    input:
        tables=tables_of(STUDY.experiments),
        verdict=rules.decide_verdict.output.parquet,
        data=[experiment_data(name) for name in STUDY.experiments],
        labels=[RESULTS / name / "labels.parquet" for name in STUDY.experiments],
        checkpoints=[of_all_runs(checkpoint_tables, name) for name in STUDY.experiments],
    output:
        RESULTS / "explore.html",
    log:
        RESULTS / "logs/explore.log",
    benchmark:
        RESULTS / "benchmarks/explore.tsv"
    conda:
        "../../envs/torch.yaml"
    params:
        folders=[str(RESULTS / name) for name in STUDY.experiments],
        data=lambda wildcards, input: os.path.dirname(input.data[0]),
    shell:
        "exec python -m smoothdescent explore --tables {params.folders} --verdict {input.verdict}"
        " --data {params.data} --output {output} > {log} 2>&1"

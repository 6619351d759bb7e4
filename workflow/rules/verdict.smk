# The paper's findings, decided from the tables of the study's experiments, and the page that shows
# all of it.


rule decide_verdict:
    input:
        tables_of(STUDY.experiments, SUMMARIES),
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
    resources:
        **LIGHT,
    params:
        program=program,
        experiments=list(STUDY.experiments),
        folders=folders,
    shell:
        "{params.program} verdict --tables {params.folders:q}"
        " --output-parquet {output.parquet:q} --output-md {output.md:q}"
        " --output-html {output.html:q} > {log:q} 2>&1"


rule verdict:
    input:
        rules.decide_verdict.output.md,
    localrule: True


# It is not in the report, which would hold it in an address longer than browsers open in a frame.
rule explore:
    input:
        tables=tables_of(STUDY.experiments, SUMMARIES),
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
    resources:
        **LIGHT,
    params:
        program=program,
        folders=lambda wildcards, input: folders(wildcards, input.tables),
        data=lambda wildcards, input: os.path.dirname(input.data[0]),
    shell:
        "{params.program} explore --tables {params.folders:q} --verdict {input.verdict:q}"
        " --data {params.data:q} --output {output:q} > {log:q} 2>&1"

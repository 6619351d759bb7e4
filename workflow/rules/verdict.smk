# The paper's findings, decided from the tables of the study's experiments.


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

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

# The paper's figures, each also a target by its name: `snakemake --cores 1 figure3`.


rule draw_figure:
    input:
        figure_tables,
    output:
        pdf=RESULTS / "figures/{figure}.pdf",
        png=RESULTS / "figures/{figure}.png",
        table=RESULTS / "figures/{figure}.parquet",
    log:
        RESULTS / "logs/draw_figure/{figure}.log",
    benchmark:
        RESULTS / "benchmarks/draw_figure/{figure}.tsv"
    conda:
        "../../envs/figures.yaml"
    params:
        folders=figure_folders,
        output=figure_stem,
    shell:
        "python -m smoothdescent figure {wildcards.figure} --tables {params.folders}"
        " --output {params.output} > {log} 2>&1"


for name in figures_at_hand():

    rule:
        name:
            name
        input:
            figure_file(name, "pdf"),
        localrule: True

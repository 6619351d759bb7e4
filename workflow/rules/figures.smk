# The paper's figures, each also a target by its name: `snakemake --cores 1 figure3`. An experiment
# that is not the paper's has a figure of its own name. The verdict on what a figure shows, for its
# caption, is decided from its own tables: were the verdict an input, one figure by name would need
# all experiments.

# Captions reach the report by this way: as params, they would be listed there once more, and a
# reworded one would redraw its figure. Only a report needs the verdict in them: reading it takes
# half a second, which every job would spend.
REPORT = any(argument.startswith("--report") for argument in sys.argv)
config["captions"] = {
    name: caption(name, Path(figure_file(name, "parquet")) if REPORT else None)
    for name in figures_of(list(STUDY.experiments))
}


rule draw_figure:
    input:
        figure_tables,
    output:
        pdf=figure_file("{figure}", "pdf"),
        # The report shows the PNG: browsers show a PDF in a frame of their own.
        png=report(
            figure_file("{figure}", "png"),
            caption="../report/figure.rst",
            category="Figures",
            labels=figure_labels,
        ),
        table=figure_file("{figure}", "parquet"),
        caption=figure_file("{figure}", "md"),
    log:
        RESULTS / "logs/draw_figure/{figure}.log",
    benchmark:
        RESULTS / "benchmarks/draw_figure/{figure}.tsv"
    conda:
        "../../envs/figures.yaml"
    params:
        folders=figure_folders,
        output=lambda wildcards: str(RESULTS / "figures" / wildcards.figure),
    shell:
        "exec python -m smoothdescent figure {wildcards.figure} --tables {params.folders}"
        " --output {params.output} > {log} 2>&1"


for name in figures_of(list(STUDY.experiments)):

    rule:
        name:
            name
        input:
            figure_file(name, "pdf"),
        localrule: True

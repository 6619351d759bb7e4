# The paper's figures, each also a target by its name: `snakemake --cores 1 figure3`. An experiment's
# name stands for its tables, and for its figure if it is not the paper's. The verdict on what a
# figure shows, for its caption, is decided from its own tables: were the verdict an input, one figure
# by name would need all experiments.

# The report's templates write captions by calling this: as params, they would be listed there once
# more, and a reworded one would redraw its figure. The caller's own `config` stays as it is.
config = {
    **config,
    "caption": lambda figure, table: caption(figure, Path(table)),
    "made_with": lambda table: made_with(Path(table)),
}


rule draw_figure:
    input:
        figure_tables,
    output:
        **{
            kind: report(
                figure_file("{figure}", suffix),
                caption="../report/figure.rst",
                category="Figures",
                labels=partial(figure_labels, file=kind),
            )
            for kind, suffix in (("png", "png"), ("pdf", "pdf"), ("table", "parquet"))
        },
        caption=figure_file("{figure}", "md"),
    log:
        RESULTS / "logs/draw_figure/{figure}.log",
    benchmark:
        RESULTS / "benchmarks/draw_figure/{figure}.tsv"
    conda:
        "../../envs/figures.yaml"
    resources:
        **LIGHT,
    params:
        program=program,
        experiments=lambda wildcards: figure_experiments(wildcards.figure),
        folders=folders,
        output=lambda wildcards, output: os.path.splitext(output.pdf)[0],
    shell:
        "{params.program} figure {wildcards.figure:q} --tables {params.folders:q}"
        " --output {params.output:q} > {log:q} 2>&1"


for name in dict.fromkeys([*STUDY.experiments, *figures_of(list(STUDY.experiments))]):

    rule:
        name:
            name
        input:
            named(name),
        localrule: True

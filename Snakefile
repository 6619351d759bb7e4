# From images to figures: decode, corrupt labels, train in segments, measure, gather, draw, decide.
# What is computed is in src/smoothdescent; the rules name files and resources.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/verdict.smk"


rule all:
    default_target: True
    input:
        [figure_file(name, "pdf") for name in figures_of(STUDY.experiments)],
        RESULTS / "verdict.md",
    localrule: True


onstart:
    write_configurations()


onsuccess:
    name_new_figures()

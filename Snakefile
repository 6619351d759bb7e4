# From images to figures: decode, corrupt labels, train, measure, gather, draw, decide.
# What is computed is in src/smoothdescent; the rules name files and resources.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/study.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/products.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/verdict.smk"


rule all:
    default_target: True
    input:
        everything,
    localrule: True
    message:
        "All products of the study are there"


rule train:
    input:
        [of_all_runs(files, e) for e in STUDY.experiments for files in (snapshots, histories)],
    localrule: True
    message:
        "All runs are trained"


rule measure:
    input:
        [of_all_runs(checkpoint_tables, experiment) for experiment in STUDY.experiments],
    localrule: True
    message:
        "All checkpoints are measured"


rule tables:
    input:
        tables_of(STUDY.experiments),
    localrule: True
    message:
        "The tables of all experiments are there"


onsuccess:
    name_new_figures()


# After a failure, and after Ctrl-C too.
onerror:
    print("What was done is saved; the same command continues from there")

# The configuration in force, images and labels.


rule dump_config:
    log:
        RESULTS / "logs/dump_config.log",
    localrule: True
    run:
        Path(log[0]).write_text(dump(STUDY))
        print(dump(STUDY))


rule prepare_data:
    input:
        dataset_files,
    output:
        update(data_file("{dataset}")),
    log:
        RESULTS / "logs/prepare_data/{dataset}.log",
    benchmark:
        RESULTS / "benchmarks/prepare_data/{dataset}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 2
    resources:
        **LIGHT,
    params:
        program=program,
        settings=dataset_settings,
        files=dataset_file_names,
    shell:
        keeping(
            "{params.program} prepare-data --settings {params.settings:q}"
            " --name {wildcards.dataset:q} --threads {threads} --output {output:q} > {log:q} 2>&1"
        )


rule make_labels:
    input:
        data=images,
    output:
        update(RESULTS / "{experiment}/labels.parquet"),
    log:
        RESULTS / "{experiment}/logs/make_labels.log",
    benchmark:
        RESULTS / "{experiment}/benchmarks/make_labels.tsv"
    conda:
        "../../envs/torch.yaml"
    resources:
        **LIGHT,
    params:
        program=program,
        settings=label_settings,
    shell:
        keeping(
            "{params.program} make-labels --settings {params.settings:q}"
            " --data {input.data:q} --output {output:q} > {log:q} 2>&1"
        )

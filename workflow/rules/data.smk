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
    params:
        settings=dataset_settings,
        files=dataset_file_names,
    shell:
        "exec python -m smoothdescent prepare-data --settings {params.settings:q}"
        " --name {wildcards.dataset} --threads {threads} --output {output} > {log} 2>&1"


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
    params:
        settings=label_settings,
    shell:
        "exec python -m smoothdescent make-labels --settings {params.settings:q}"
        " --data {input.data} --output {output} > {log} 2>&1"

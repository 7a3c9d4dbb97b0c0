# Prepare datasets under resources/<dataset>/. The manifest is written last.


rule dataset:
    output:
        "resources/{dataset}/manifest.json",
    log:
        f"results/{NAME}/logs/dataset/{{dataset}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(on={}),
    params:
        listing=lambda wildcards: listing(wildcards.dataset),
    message:
        "Preparing dataset {wildcards.dataset}"
    shell:
        "adaptsr data prepare {wildcards.dataset} {PROFILE_ARGUMENTS} 2>&1 | tee {log} >&2"

# Choose options of every variant on the validation split. A job tries one variant on one backbone at every point of the
# profile's grid; its runs lie in results/<profile>/tuning/<point>/. Choices that `tuning.choices` has are not made again.


rule tune:
    input:
        tuning_inputs,
        rules.accepted.output,
        f"results/{NAME}/metric_weights.json",
    output:
        # Kept for the job to look at: a choice that came with a pack is not made again.
        update(f"results/{NAME}/tuning/choices/{{backbone}}/{{baseline}}/{{variant}}.json"),
    log:
        f"results/{NAME}/logs/tune/{{backbone}}/{{baseline}}/{{variant}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(tuning_minutes),
    params:
        key=tuning_key,
    message:
        "Tuning {wildcards.baseline}/{wildcards.variant} on {wildcards.backbone}"
    shell:
        "adaptsr tune {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} "
        "--variant {wildcards.baseline}/{wildcards.variant} --out {output} 2>&1 | tee {log} >&2"


# The choices of a profile. `all` makes them where they are missing; this target makes them alone.
rule tuning:
    input:
        made_choices(),
    localrule: True


# The demo's choices are tracked files, so `all` does not make them.
if PROFILE.tuning and PROFILE.tuning.choices:

    rule demo_tuning:
        input:
            made_choices(),
        log:
            f"results/{NAME}/logs/demo_tuning.log",
        localrule: True
        params:
            made=f"results/{NAME}/tuning/choices/.",
            folder=expanded(PROFILE.tuning.choices),
        message:
            "Installing the choices of tuning under {params.folder}"
        shell:
            "mkdir -p {params.folder:q} && cp -r {params.made} {params.folder:q} 2>&1 | tee {log} >&2"

# Reports: one rule a table of the profile, named as the table, and one for the significance tests.

for name in [*PROFILE.report.tables, *(["significance"] if PROFILE.report.comparisons else [])]:

    rule:
        name:
            name
        input:
            rules.scores.output,
        output:
            report_files(name),
        log:
            f"results/{NAME}/logs/report/{name}.log",
        params:
            name=name,
            key=report_key(),
        localrule: True
        message:
            "Rendering {params.name}"
        shell:
            "adaptsr report {params.name} {PROFILE_ARGUMENTS} 2>&1 | tee {log} >&2"

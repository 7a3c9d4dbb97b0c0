"""The contract of a baseline file. In: a file of `baselines/`. Out: a list of checks that passed, failed or were skipped."""

"""Runs. In: a checked profile. Out: every run (backbone x variant x seed) with its name, folder, key and record."""

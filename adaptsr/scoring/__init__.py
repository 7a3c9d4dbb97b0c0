"""Scoring. In: runs, backbones or folders of restored images. Out: one row per image and metric, in a checked file."""

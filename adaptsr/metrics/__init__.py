"""Metrics: pyiqa's, under pinned conventions. In: a profile's metrics. Out: conventions, networks, values."""

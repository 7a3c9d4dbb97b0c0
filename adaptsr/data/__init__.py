"""Datasets: turn archives, folders of pairs or sample images into checked LR/HR pairs and training crops."""

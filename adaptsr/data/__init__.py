"""Datasets. In: archives, folders of pairs, sample images. Out: checked LR/HR pairs, and training crops."""

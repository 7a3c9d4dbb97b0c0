"""Datasets. In: archives, folders of pairs, sample images. Out: checked LR/HR pairs, and crops as a pure function of seed and iteration."""

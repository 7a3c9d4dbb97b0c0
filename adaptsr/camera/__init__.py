"""The pairs of a camera. In: a folder of pairs, and a model. Out: a verdict with a page, aligned pairs, or the adapted model."""

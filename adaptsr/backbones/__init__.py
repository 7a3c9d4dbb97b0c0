"""Backbones. In: a profile's entry or a checkpoint file. Out: a model in eval mode that passed the gate, and its sites."""

"""Architecture families, one small file each. In: a state dict or options. Out: facts or a model."""

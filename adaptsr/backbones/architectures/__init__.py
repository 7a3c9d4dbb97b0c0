"""What is known of a family of architectures, one small file each. In: a state dict or options. Out: facts, or a model."""

"""Adaptation. In: a backbone, its sites and a variant. Out: a plan, an attached model, parameter counts, a merged state dict."""

"""Restore photographs. In: a model and photographs of any kind. Out: restored photographs of the same kind, and a page."""

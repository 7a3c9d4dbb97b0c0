"""Exchange. In: finished runs of several machines. Out: packs of them, one results folder made of packs, and a run redone."""

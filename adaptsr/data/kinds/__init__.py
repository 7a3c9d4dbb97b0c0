"""The kinds of dataset that a profile can declare. In: a declaration. Out: images under `resources/` and a manifest."""

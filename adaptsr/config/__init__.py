"""Profiles. In: a YAML file and settings. Out: a checked, frozen `Profile`, or one line that says what is wrong."""

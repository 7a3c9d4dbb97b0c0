"""Profiles: turn a YAML file and settings into a checked, frozen `Profile`, or say in one line what is wrong."""

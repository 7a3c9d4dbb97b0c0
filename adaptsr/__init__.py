"""A benchmark of parameter-efficient adaptation of super-resolution models to real photographs."""

__version__ = "0.3.0"

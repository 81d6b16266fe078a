"""gpumon: what every GPU of a lab is doing now."""

__version__ = "0.1.0"

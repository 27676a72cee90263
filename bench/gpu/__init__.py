"""The parts of `scripts/gpu-check`: each is a module with `run(notes)`."""

SIZES = (784, 300, 100, 10)
"""Of the network that the goals are about."""

"""The parts of `scripts/gpu-check`: each is a module with `run(notes)`."""

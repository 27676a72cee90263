"""Trainings that are killed, starved and damaged, and lose nothing; the long form: `python -m tests.faults`."""

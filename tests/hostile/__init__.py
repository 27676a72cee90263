"""Input from strangers: named attacks, and a fuzzer for every reader."""

"""The benchmarks run; how fast, they say themselves."""

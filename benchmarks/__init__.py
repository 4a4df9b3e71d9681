"""How fast aiotaskstore is, as ratios to the same statements without it. Run: python -m benchmarks --help."""

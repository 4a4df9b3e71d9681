"""What connects the library with other packages: each module needs its own extra, and the engine imports none."""

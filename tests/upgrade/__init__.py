"""An installation of the version before, upgraded while it is at work."""

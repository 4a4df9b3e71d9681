"""What holds when processes, servers and connections die: real ones, killed for good."""

"""What bad input gets: a clear error of ours at the earliest moment, nothing stored, nothing else disturbed."""

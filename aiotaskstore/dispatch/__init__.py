"""What works: one dispatcher claims tasks and runs their handlers."""

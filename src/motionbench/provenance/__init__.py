"""What made a file, and whether it can be made again."""

"""What every package uses: errors, files, paths, git, DVC's files, processes."""

"""What every room uses: errors, files, paths, git, DVC's files, processes."""

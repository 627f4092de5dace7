"""Video files of the user's own: found, decoded, dealt into parts."""

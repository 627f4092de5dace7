"""The networks: their registry, layers, archives and cost."""

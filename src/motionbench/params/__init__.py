"""params.yaml: schema, loading, editing."""

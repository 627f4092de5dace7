"""The comparison as tables, figures and a report."""

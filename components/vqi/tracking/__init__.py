"""MLflow: runs and comparisons."""

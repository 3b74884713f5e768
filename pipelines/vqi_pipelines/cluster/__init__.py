"""Kubeflow Pipelines as people and CI reach it: connecting, preflight, uploading, submitting, following, scheduling."""

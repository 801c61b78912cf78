"""Prefect and MLflow as real processes on loopback."""

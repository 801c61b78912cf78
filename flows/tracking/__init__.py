"""The only package that imports mlflow: runs, artefacts, the registry and its aliases."""

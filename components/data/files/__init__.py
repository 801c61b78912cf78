"""Image files, listed and opened where they are: folders, globs, tables, archives, object stores.

Ingest and predict share this package: ingest adds labels (components.data.sources), predict adds predictions.
Import its modules, not this package: whoever only predicts from bytes needs image_file and nothing else.
"""

"""Files on disk: atomic writes, checksums and records of files, Parquet shards, memory-mapped rows, crash points of tests.

Nothing here knows steps, tasks or models; the run folder is in ``runs``.
"""

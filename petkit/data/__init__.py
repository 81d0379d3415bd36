"""Rows of files (JSON Lines, CSV, TSV, Parquet and hub datasets) as examples with named text fields and labels, read as streams and
checked row by row. No tokens and no torch; what a row means for a task, such as the order of its labels, is given by the caller.
"""

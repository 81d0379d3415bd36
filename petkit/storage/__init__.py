"""Files on disk, known by nothing but their names: atomic writes, checksums, records, shards, mapped rows, crash points."""

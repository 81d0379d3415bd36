"""The run folder: steps and their fingerprints, planning and resuming, checkpoints, locks, provenance, verification."""

"""The run folder: finished steps, fingerprints, locks, provenance."""

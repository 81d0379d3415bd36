"""The run folder: steps and their fingerprints, planning and resuming, checkpoints, locks, provenance, verification.

What a step computes lives in ``stages`` and ``pretraining``; how single files get to disk whole, in ``storage``.
"""

"""Parameters trained in place of a frozen model's own: LoRA, IA³, QLoRA, P-Tuning v1 and v2, prompt tuning, in PEFT's file format.
A file per kind; ``attach`` chooses among them. Their settings are in ``petkit.config.schema.adapter``; which steps use an
adapter is decided in ``petkit.teachers`` and ``petkit.student``.
"""

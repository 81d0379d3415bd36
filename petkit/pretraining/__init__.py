"""Training before any label is used: the model adapted to the unlabelled texts (masked LM), and soft prompts pretrained on them
(PPT, Gu et al. 2022). Each command is a run folder of a single step. What the results are used for is in ``petkit.stages``, by
way of the model or prompt folder that a pipeline names.
"""

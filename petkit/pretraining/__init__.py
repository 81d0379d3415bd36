"""Training before any label is used: masked LM on the unlabelled texts, and soft prompts pretrained on them (PPT, Gu et al. 2022).

Each command is a run folder of a single step; pipelines name the model or prompt folder that it makes.
"""

"""Language models: checking and loading their folders, reading them at the mask as label logits, attaching adapters. Training and
inference in batches is ``petkit.engine``, which PVP is scored ``petkit.teachers``.
"""

import logging

# Where bitsandbytes is installed PEFT imports it, and it warns of a faster kernel that petkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

"""Language models: checking and loading their folders, reading them at the mask as label logits, attaching adapters. Training and
inference in batches is ``petkit.engine``, which PVP is scored ``petkit.teachers``.
"""

import logging
import os

# oneDNN keeps a compiled kernel for every shape it has met, hundreds of megabytes for texts of all lengths.
# It reads these once, when torch first multiplies.
for _variable in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "32")
# Where bitsandbytes is installed PEFT imports it, and it warns of a faster kernel that petkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

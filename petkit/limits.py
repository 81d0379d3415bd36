"""Every cap in one place: what petkit does not take up, and why the number is what it is.

Honest input stays far below; anything above is a mistake or an attack, and is reported with the number and a hint before
anything heavy is imported or read whole. The unlabelled set has no cap on its rows: it is read as a stream.
"""

from __future__ import annotations

# -- what the user writes ----------------------------------------------------------------------------

# One YAML file: a thousand labels with ten words each are 150 kB; YAML is read at about 1 MB a second.
CONFIG_BYTES = 2**20
# Values of one file with its aliases written out; the same thousand labels are 12,000.
CONFIG_VALUES = 30_000
# Lists in mappings in lists: the deepest key of the specification is at 5.
CONFIG_DEPTH = 32
# One text, such as a pattern: models read 512 tokens, some a few thousand.
TEXT_CHARACTERS = 10_000
# One key, such as a label; it also names folders' tables and columns.
KEY_CHARACTERS = 200
# Entries of any list or mapping that has no cap of its own.
ENTRIES = 1_000
# Values given with --set.
OVERRIDES = 200
# Each pattern with each seed is a model to train; the paper has six patterns.
PATTERNS = 200
# Columns that one pattern puts together; a pattern of more leaves each of them some ten tokens.
FIELDS = 20
# A softmax over them needs a word of its own for each, and every teacher writes a number per row and label: a million rows
# of a thousand labels are 4 GB per teacher. Larger sets of labels want retrieval, not cloze questions.
LABELS = 1_000
# Candidate answers of one row: each is read in the slot. ReCoRD's texts name up to some 50 entities.
CANDIDATES = 200
# Words of one label; verbalizer.auto finds as many at most. Their scores are averaged: more words say less.
WORDS_PER_LABEL = 100
WORD_CHARACTERS = 100
# Words of all labels: each is looked up in the tokenizer for every pattern.
WORDS = 10_000
# Rows made up for one label, and for all: some four say what a label is about; more belong into data.train.
DESCRIPTIONS_PER_LABEL = 100
DESCRIPTIONS = 10_000
SEEDS = 100
# Patterns × seeds × generations: each is a trained model, kept in the run folder.
TEACHERS = 1_000

# Width of an adapter's own network and rank of its updates; the widest models have some 10,000 hidden units. A network of
# this width for such a model takes a few GB.
ADAPTER_WIDTH = 4_096
# Tokens per row or example: the longest contexts of models.
ROW_TOKENS = 1_000_000
# Of the processor; also of a run's manifest, which may come from elsewhere.
THREADS = 1024

# -- data --------------------------------------------------------------------------------------------

# One row, all its columns: a long novel is 3 MB. A row is taken apart in memory, at up to 24 times its size (JSON).
ROW_BYTES = 4 * 2**20
# Lists in mappings in lists within one row of JSON.
ROW_DEPTH = 100
COLUMNS = 10_000
ID_CHARACTERS = 1_000
# Labelled rows are kept in memory and tokenised again for every teacher; more rows do not need a few-shot method.
LABELLED_ROWS = 100_000
# What describes a Parquet file, at its end: about 100 bytes per column and row group.
PARQUET_FOOTER = 8 * 2**20
# Text shrinks tenfold; a column that shrinks this much, and is as large as this unpacked, was made to fill the memory.
PARQUET_FOLD = 200
PARQUET_UNPACKED = 16 * 2**20
# Texts of a list column per row, on average.
PARQUET_LIST = 1_000
# Numbers of one: an embedding has some thousand. In Python they take up to 32 bytes each, 3 MB a row.
PARQUET_NUMBERS = 100_000

# -- what is shown -----------------------------------------------------------------------------------

# Mistakes in one report, names in one list, characters of one part of a message.
SHOWN_PROBLEMS = 100
SHOWN_NAMES = 20
SHOWN_CHARACTERS = 1_000
# Names compared with a misspelt one, and the longest name that can be a slip of the keyboard.
COMPARED_NAMES = 1_000
COMPARED_CHARACTERS = 100

"""Everything a user can write, with its unit and its default. Defaults live here and nowhere else."""

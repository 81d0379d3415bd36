"""What the user writes: the specification and the strict YAML it comes from."""

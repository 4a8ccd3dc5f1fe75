"""What `tally verify` looks at: the checks, one module for each kind of thing that is checked."""

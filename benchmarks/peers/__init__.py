"""The second part's step against the other frameworks, on the CPU, in one process."""

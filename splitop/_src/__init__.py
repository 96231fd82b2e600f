"""Implementation of splitop; import the public names from `splitop` itself."""

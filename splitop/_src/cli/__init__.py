"""The commands of `python -m splitop`: a module each, with `main(argv) -> exit status`."""

"""`python -m sdplip`."""

from sdplip.cli import main

main(prog_name="sdplip")

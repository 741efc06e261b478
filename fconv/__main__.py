"""``python -m fconv`` is the command `fconv`."""

from fconv.cli import main

if __name__ == "__main__":
    main(prog_name="fconv")

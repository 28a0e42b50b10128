"""``python -m aethr``."""

from aethr.cli import program

if __name__ == "__main__":
    program()

"""``python -m web`` is the command ``presslab``."""

from web.cli.main import main

main()

"""One command, JSON out: what the speed and quality claims rest on."""

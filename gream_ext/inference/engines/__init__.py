"""One file an engine, behind the protocol in base.py."""

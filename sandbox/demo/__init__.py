"""The demo and the local run: the product and its stand-ins on one machine."""

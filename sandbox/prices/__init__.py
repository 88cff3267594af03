"""Three sources of the price of bitcoin, with faults on request."""

"""Three exchanges that tell the price of bitcoin, and what can go wrong with them."""

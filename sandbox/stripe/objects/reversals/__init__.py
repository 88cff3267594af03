"""Money given back and taken back: refunds, disputes, early fraud warnings."""

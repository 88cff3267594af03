"""Parts of the benchmark of webhooks: what it is compared with, and who delivers."""

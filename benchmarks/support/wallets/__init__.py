"""Parts of the benchmark of wallet payments."""

"""Parts of the benchmarks: servers, counterparts, and what is measured."""

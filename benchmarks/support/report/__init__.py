"""The page of all figures: `docs/performance.md`, its numbers and plots."""

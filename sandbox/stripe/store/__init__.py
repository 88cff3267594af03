"""Storage: records, ids, snapshots and the state file."""

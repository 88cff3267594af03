"""Storage: records, ids, snapshots, the state file and the audit."""

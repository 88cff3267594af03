"""The control API: time, faults, customers' actions."""

"""NIP-47 wallets, BOLT 11 invoices and price sources; no models."""

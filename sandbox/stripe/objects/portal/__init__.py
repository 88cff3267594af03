"""The customer portal and actions on hosted pages."""

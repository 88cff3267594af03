"""Pages of the stand-ins: templates, responses, forms and files."""

"""How facts become text, tables and pages."""

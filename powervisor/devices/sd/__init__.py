"""SD memory cards and the eSDHC, the controller they sit in."""

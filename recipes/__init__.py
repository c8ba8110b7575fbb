"""How the models that come with Gyre were made."""

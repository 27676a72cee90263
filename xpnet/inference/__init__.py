"""A trained model on data that are not its own: read in pieces, predicted, measured, written."""

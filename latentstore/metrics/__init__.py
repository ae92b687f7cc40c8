"""MEASURE: what was lost, one number a picture."""

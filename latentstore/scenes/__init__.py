"""Aerial-looking scenes, drawn by arithmetic; `latentstore.sources.synthetic` gives them names and makes them a source.

A scene is two fields, the colour of the ground and the height of what stands on it, at about 0.7 m a pixel
(`canvas.py`); light, shadows, haze and sensor follow from those two (`photograph.py`). Every drawing is a formula over
pixel coordinates (`arithmetic.py`); what repeats does so in cells (`cells.py`).
"""

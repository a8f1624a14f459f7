"""Colours that colour-blind readers tell apart."""

# Okabe and Ito's, from dark to light as far as they go; line styles beside them serve prints in grey.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, ORANGE = "#CC79A7", "#56B4E9", "#E69F00"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
HEAT = "cividis"  # of matplotlib's colour maps

"""Colours that colour-blind readers tell apart."""

# Okabe and Ito's, from dark to light as far as they go; line styles beside them serve prints in grey.
BLACK, BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
)
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
HEAT = "cividis"  # of matplotlib's colour maps

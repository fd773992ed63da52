"""Text in LaTeX."""

LATEX_ESCAPES = str.maketrans(
    {sign: "\\" + sign for sign in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)

"""The page and the text of one run or several, made of their records alone."""

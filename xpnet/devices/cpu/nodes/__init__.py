"""What the nodes of a tape do: compiled loops and products over one part of the arrays, a file for each kind.

Each factory takes the kinds of the numbers (or a name) and returns f(arguments, part, parts); `compiling` makes machine
code of it once and keeps that on disk. Loops read and write every array once, or by blocks that stay in the core's
cache. Comparisons are written so that NaN passes through, and a diverging network is seen to diverge. Sums may be
reordered (that makes them vectors), always in the same way; what the parts sum is summed up by a node of its own, in
the order of the parts.
"""

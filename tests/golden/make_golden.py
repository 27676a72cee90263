"""An independent float64 computation of ten training steps, by plain loops over textbook formulas.

It shares nothing with xpnet but the formula of its inputs. `python tests/golden/make_golden.py` rewrites golden.json.
"""

import itertools
import json
import math
from pathlib import Path

SIZES, ROWS, LR, L2 = (4, 6, 5, 3), 7, 0.3, 0.01


def wave(n, phase):
    """n numbers between -1 and 1 that repeat nothing."""
    return [math.sin(1.7 * i + phase) * math.cos(0.3 * i * i + phase) for i in range(n)]


def matrix(rows, columns, phase):
    flat = wave(rows * columns, phase)
    return [flat[i * columns : (i + 1) * columns] for i in range(rows)]


def forward(x, weights, biases):
    layers = [x]
    for depth, (w, b) in enumerate(zip(weights, biases, strict=False)):
        h = layers[-1]
        z = [[sum(row[i] * w[i][j] for i in range(len(w))) + b[j] for j in range(len(b))] for row in h]
        hidden = depth < len(weights) - 1
        layers.append([[math.tanh(v) for v in row] for row in z] if hidden else z)
    return layers


def step(x, labels, weights, biases):
    """The mean loss with its penalty before the step, and every gradient of it."""
    layers = forward(x, weights, biases)
    loss, dz = 0.0, []
    for scores, label in zip(layers[-1], labels, strict=False):
        shifted = [math.exp(v - max(scores)) for v in scores]
        p = [v / sum(shifted) for v in shifted]
        loss -= math.log(p[label]) / len(x)
        dz.append([(p[j] - (j == label)) / len(x) for j in range(len(p))])
    loss += sum(0.5 * L2 * v * v for w in weights for row in w for v in row)
    dws, dbs = [], []
    for depth in reversed(range(len(weights))):
        w, h = weights[depth], layers[depth]
        dbs.insert(0, [sum(row[j] for row in dz) for j in range(len(w[0]))])
        dws.insert(
            0,
            [
                [sum(h[n][i] * dz[n][j] for n in range(len(x))) + L2 * w[i][j] for j in range(len(w[0]))]
                for i in range(len(w))
            ],
        )
        dh = [[sum(row[j] * w[i][j] for j in range(len(row))) for i in range(len(w))] for row in dz]
        dz = [[g * (1 - y * y) for g, y in zip(grads, ys, strict=False)] for grads, ys in zip(dh, h, strict=False)]
    return loss, dws, dbs


def moved(rows, gradient):
    """rows - LR gradient."""
    return [[v - LR * g for v, g in zip(*pair, strict=True)] for pair in zip(rows, gradient, strict=True)]


def main():
    x = matrix(ROWS, SIZES[0], 0.1)
    labels = [i * i % SIZES[-1] for i in range(ROWS)]
    weights = [matrix(i, o, 1.0 + d) for d, (i, o) in enumerate(itertools.pairwise(SIZES))]
    biases = [wave(o, 2.0 + d) for d, o in enumerate(SIZES[1:])]
    losses, first = [], None
    for _ in range(10):
        loss, dws, dbs = step(x, labels, weights, biases)
        losses.append(loss)
        first = first or {"dw": dws, "db": dbs}
        weights = [moved(w, dw) for w, dw in zip(weights, dws, strict=True)]
        biases = [moved([b], [db])[0] for b, db in zip(biases, dbs, strict=True)]
    last = {"w": weights, "b": biases}
    path = Path(__file__).with_name("golden.json")
    path.write_text(json.dumps({"losses": losses, "first_gradients": first, "last_parameters": last}) + "\n")


if __name__ == "__main__":
    main()

"""An independent float64 computation of ten training steps, by plain loops over textbook formulas.

It shares nothing with xpnet but the formula of its inputs. `python tests/golden/make_golden.py` rewrites golden.json.

With normalization, dropout and smoothed labels the gradients come from no formula at all, but from the loss at complex
numbers: f'(x) = Im f(x + ih) / h, which loses no digits (Squire and Trapp 1998).
"""

import cmath
import itertools
import json
import math
from pathlib import Path

SIZES, ROWS, LR, L2 = (4, 6, 5, 3), 7, 0.3, 0.01
RATES, SMOOTHING, SEED = (0.25, 0.5), 0.1, 12345
EPS, MOMENTUM = 1e-5, 0.1
WORD, LONG = 2**32, 2**64


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


def splitmix(x):
    """Steele, Lea and Flood 2014, figure 17."""
    x = x * 0x9E3779B97F4A7C15 % LONG
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % LONG
    x = (x ^ x >> 27) * 0x94D049BB133111EB % LONG
    return x ^ x >> 31


def lowbias(x):
    """Wellons 2018."""
    x = (x ^ x >> 16) * 0x7FEB352D % WORD
    x = (x ^ x >> 15) * 0x846CA68B % WORD
    return x ^ x >> 16


def kept(seed, layer, number, rate, rows, units):
    """What dropout multiplies with in a layer and a step, both counted from 0."""
    key = splitmix(splitmix(seed + layer + 1) + number) >> 32
    words = [[lowbias((lowbias((key + i) % WORD) + j) % WORD) for j in range(units)] for i in range(rows)]
    return [[(word >= rate * WORD) / (1 - rate) for word in row] for row in words]


def mean_and_variance(values):
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / len(values)


def normalized(z, kind):
    """z with means of 0 and variances of 1 in its columns ("batch") or rows ("layer"); and what those were."""
    lines = list(zip(*z, strict=True)) if kind == "batch" else z
    facts = [mean_and_variance(line) for line in lines]
    hats = [[(v - m) / cmath.sqrt(s + EPS) for v in line] for line, (m, s) in zip(lines, facts, strict=True)]
    return (list(map(list, zip(*hats, strict=True))) if kind == "batch" else hats), facts


def whole_loss(x, labels, parameters, kind, number):
    """The mean loss with its penalty, as a step sees it; and the means and variances of each hidden layer."""
    weights, biases, gains = parameters
    h, facts = x, []
    for depth, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = [[sum(row[i] * w[i][j] for i in range(len(w))) for j in range(len(b))] for row in h]
        if depth == len(weights) - 1:
            h = [[v + shift for v, shift in zip(row, b, strict=True)] for row in z]
            break
        hats, fact = normalized(z, kind)
        facts.append(fact)
        masks = kept(SEED, depth, number, RATES[depth], len(x), len(b))
        h = [
            [cmath.tanh(g * v + shift) * m for v, g, shift, m in zip(row, gains[depth], b, mask, strict=True)]
            for row, mask in zip(hats, masks, strict=True)
        ]
    loss = sum(0.5 * L2 * v * v for w in weights for row in w for v in row)
    for scores, label in zip(h, labels, strict=True):
        log_sum = cmath.log(sum(cmath.exp(v) for v in scores))
        for j, v in enumerate(scores):
            target = (1 - SMOOTHING) * (j == label) + SMOOTHING / len(scores)
            loss += target * (log_sum - v) / len(x)
    return loss, facts


def each_place(parameters):
    """Every list of numbers in nested lists, with each of its places."""
    for part in parameters:
        if isinstance(part, list):
            yield from each_place(part)
        else:
            yield from ((parameters, i) for i in range(len(parameters)))
            return


def regularized(x, labels, weights, biases, kind):
    """Ten steps with normalization, dropout and smoothed labels: losses, parameters after them, running statistics."""
    gains = [[1.0 + 0.1 * v for v in wave(o, 3.0 + d)] for d, o in enumerate(SIZES[1:-1])]
    parameters = json.loads(json.dumps([weights, biases, gains]))  # a copy
    running = [[[0.0, 1.0] for _ in range(o)] for o in SIZES[1:-1]]
    losses, h = [], 1e-100
    for number in range(10):
        loss, facts = whole_loss(x, labels, parameters, kind, number)
        losses.append(loss.real)
        slopes = []
        for part, i in each_place(parameters):
            before = part[i]
            part[i] = complex(before, h)
            slopes.append(whole_loss(x, labels, parameters, kind, number)[0].imag / h)
            part[i] = before
        for (part, i), slope in zip(each_place(parameters), slopes, strict=True):
            part[i] -= LR * slope
        for old, new in zip(running, facts, strict=True) if kind == "batch" else ():
            for fact, (mean, variance) in zip(old, new, strict=True):
                unbiased = variance * len(x) / (len(x) - 1)
                fact[0] += MOMENTUM * (mean.real - fact[0])
                fact[1] += MOMENTUM * (unbiased.real - fact[1])
    names = ("w", "b", "g")
    return {"losses": losses, "last_parameters": dict(zip(names, parameters, strict=True)), "running": running}


def main():
    x = matrix(ROWS, SIZES[0], 0.1)
    labels = [i * i % SIZES[-1] for i in range(ROWS)]
    weights = [matrix(i, o, 1.0 + d) for d, (i, o) in enumerate(itertools.pairwise(SIZES))]
    biases = [wave(o, 2.0 + d) for d, o in enumerate(SIZES[1:])]
    normalizations = {kind: regularized(x, labels, weights, biases, kind) for kind in ("batch", "layer")}
    losses, first = [], None
    for _ in range(10):
        loss, dws, dbs = step(x, labels, weights, biases)
        losses.append(loss)
        first = first or {"dw": dws, "db": dbs}
        weights = [moved(w, dw) for w, dw in zip(weights, dws, strict=True)]
        biases = [moved([b], [db])[0] for b, db in zip(biases, dbs, strict=True)]
    last = {"w": weights, "b": biases}
    path = Path(__file__).with_name("golden.json")
    plain = {"losses": losses, "first_gradients": first, "last_parameters": last}
    path.write_text(json.dumps({**plain, "normalization": normalizations}) + "\n")


if __name__ == "__main__":
    main()

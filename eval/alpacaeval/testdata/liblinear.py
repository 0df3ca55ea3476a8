"""Golden fits for liblinear_test.go.

    python liblinear.py > liblinear.json

Made with scikit-learn 1.9.1 and numpy 2.4.6. Rows come from a generator that
the test has too; folds are dealt by position.
"""
import json
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

warnings.filterwarnings("ignore")


class LCG:
    def __init__(self, seed):
        self.s = seed

    def next(self):
        self.s = (self.s * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.s >> 11) / 2**53


def rows(n, seed):
    r = LCG(seed)
    out = []
    for i in range(n):
        tanh = 2 * r.next() - 1
        d = 4 * r.next() - 2
        one = 0.0 if i < n // 3 else 1.0
        weight = 0.1 if i < n // 3 else 1.0
        p = r.next()
        if i % 7 == 0:
            p = round(p)
        out.append((tanh, d, one, weight, p))
    return np.array(out)


def fit(a, c, features, seed=123):
    x = np.concatenate([a[:, :3], a[:, :3]])[:, features]
    y = np.concatenate([np.ones(len(a)), np.zeros(len(a))])
    w = np.concatenate([a[:, 3] * a[:, 4], a[:, 3] * (1 - a[:, 4])])
    m = LogisticRegression(C=c, penalty="l1", solver="liblinear", fit_intercept=False, dual=False, random_state=seed, tol=1e-4, max_iter=100)
    m.fit(x, y, sample_weight=w)
    return m.coef_[0]


def score(w, a):
    q = np.clip(1 / (1 + np.exp(-(a[:, :3] @ w))), 1e-15, 1 - 1e-15)
    return float(np.mean(a[:, 3] * (a[:, 4] * np.log(q) + (1 - a[:, 4]) * np.log(1 - q))))


grid = np.logspace(-4, 4, 10)
doc = {"fits": [], "scores": []}
for n, seed in [(30, 1), (100, 2), (805, 3)]:
    for c in grid:
        doc["fits"].append({"n": n, "seed": seed, "c": c, "features": 3, "w": list(fit(rows(n, seed), c, [0, 1, 2]))})
        doc["fits"].append({"n": n, "seed": seed, "c": c, "features": 2, "w": list(fit(rows(n, seed), c, [0, 2]))})
for n, seed in [(100, 2), (241, 4)]:
    a = rows(n, seed)
    seeds = np.random.RandomState(123)
    mean = [0.0] * len(grid)
    for fold in range(5):
        test = np.arange(n) % 5 == fold
        rng = np.random.RandomState(123)  # shared by the fits of a fold
        for g, c in enumerate(grid):
            mean[g] += score(fit(a[~test], c, [0, 1, 2], rng), a[test]) / 5
    doc["scores"].append({"n": n, "seed": seed, "mean": mean, "c": float(grid[int(np.argmax(mean))])})
print(json.dumps(doc, indent=1))

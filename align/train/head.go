package train

import (
	"math"

	"expo/internal/kernel"
)

// A target is a prediction that counts: the token that the position at row of
// the hidden states should be followed by.
type target struct{ row, token int }

// headScratch holds what lies between the last hidden states and a loss.
type headScratch struct {
	x, norm, dnorm, dx, logits []float32
}

// logitElements bounds how many logits are held at a time. They are computed in
// chunks of rows, so it is part of the order in which gradients are added.
const logitElements = 1 << 24

// gather copies and normalizes the hidden states that count.
func (n *network) gather(targets []target) (x, norm []float32) {
	h := n.cfg.HiddenSize
	x = sized(&n.head.x, len(targets)*h)
	for i, t := range targets {
		copy(x[i*h:(i+1)*h], n.last[t.row*h:])
	}
	norm = sized(&n.head.norm, len(targets)*h)
	n.normalize(norm, x, n.w.norm)
	return x, norm
}

// scatter takes the gradient of the normalized hidden states back to n.d.
func (n *network) scatter(targets []target, x, dnorm []float32) {
	h := n.cfg.HiddenSize
	dx := sized(&n.head.dx, len(targets)*h)
	clear(dx)
	n.normalizeBack(dx, n.g.norm, x, n.w.norm, dnorm)
	clear(sized(&n.d, len(n.tokens)*h))
	for i, t := range targets {
		kernel.Axpy(n.d[t.row*h:(t.row+1)*h], 1, dx[i*h:(i+1)*h])
	}
}

// logProbs computes the log-probability of each target into logp. With coef not
// nil, it sets n.d and adds to gradients for the loss Σ coef·logp.
func (n *network) logProbs(targets []target, logp []float64, coef []float32) {
	h, v := n.cfg.HiddenSize, n.w.head.rows
	x, norm := n.gather(targets)
	w := n.packRows(n.right[0], n.w.head.w, v, h)
	var back *kernel.Panels
	var dnorm []float32
	if coef != nil {
		back = n.packColumns(n.right[1], n.w.head.w, h, v)
		dnorm = sized(&n.head.dnorm, len(targets)*h)
	}
	chunk := max(rowBlock, logitElements/v)
	for lo := 0; lo < len(targets); lo += chunk {
		part := targets[lo:min(lo+chunk, len(targets))]
		rows := len(part)
		logits := sized(&n.head.logits, rows*v)
		n.multiply(logits, n.packRows(n.left[0], norm[lo*h:], rows, h), w, false)
		n.team.do(rows, 1, 4*v, func(_, from, to int) {
			for i := from; i < to; i++ {
				row := logits[i*v : (i+1)*v]
				at := row[part[i].token]
				best, nan := kernel.Argmax(row)
				if nan {
					logp[lo+i] = math.NaN()
					continue
				}
				largest := row[best]
				kernel.Softmax(row)
				// The largest probability is 1/Σ exp(x − largest).
				logp[lo+i] = float64(at-largest) + math.Log(float64(row[best]))
				if coef != nil {
					c := coef[lo+i]
					kernel.Scale(row, -c)
					row[part[i].token] += c
				}
			}
		})
		if coef == nil {
			continue
		}
		n.multiply(dnorm[lo*h:], n.packRows(n.left[0], logits, rows, v), back, false)
		a := n.packColumns(n.left[1], logits, v, rows)
		n.multiply(n.g.head.w, a, n.packColumns(n.right[2], norm[lo*h:], h, rows), true)
	}
	if coef != nil {
		n.scatter(targets, x, dnorm)
	}
}

// scores computes the outputs of a sequence classifier's head with one label at
// each target; their tokens mean nothing.
func (n *network) scores(targets []target, out []float64) {
	h := n.cfg.HiddenSize
	_, norm := n.gather(targets)
	for i := range targets {
		out[i] = float64(kernel.Dot(norm[i*h:(i+1)*h], n.w.head.w))
	}
}

// scoresBack sets n.d and adds to gradients for the loss Σ coef·score.
func (n *network) scoresBack(targets []target, coef []float32) {
	h := n.cfg.HiddenSize
	x, norm := n.gather(targets)
	dnorm := sized(&n.head.dnorm, len(targets)*h)
	clear(dnorm)
	for i, c := range coef {
		kernel.Axpy(dnorm[i*h:(i+1)*h], c, n.w.head.w)
		kernel.Axpy(n.g.head.w, c, norm[i*h:(i+1)*h])
	}
	n.scatter(targets, x, dnorm)
}

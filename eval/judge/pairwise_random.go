package judge

import (
	"crypto/sha512"
	"encoding/binary"
	"math/bits"
)

// Twister is the Mersenne Twister MT19937 of Matsumoto and Nishimura
// (http://www.math.sci.hiroshima-u.ac.jp/m-mat/MT/emt.html), which both
// CPython's random and liblinear draw from.
type Twister struct {
	state [624]uint32
	next  int
}

// NewTwister seeds by init_genrand, as std::mt19937 does.
func NewTwister(seed uint32) *Twister {
	t := &Twister{next: 624}
	t.state[0] = seed
	for i := 1; i < 624; i++ {
		t.state[i] = 1812433253*(t.state[i-1]^t.state[i-1]>>30) + uint32(i)
	}
	return t
}

// NewTwisterFromText seeds as Python's random.Random(text) does: with the
// number whose big-endian bytes are the text and its SHA-512, cut into 32-bit
// words, the least significant first.
func NewTwisterFromText(text string) *Twister {
	sum := sha512.Sum512([]byte(text))
	b := append([]byte(text), sum[:]...)
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	b = append(make([]byte, (4-len(b)%4)%4), b...)
	key := make([]uint32, 0, len(b)/4)
	for i := len(b) - 4; i >= 0; i -= 4 {
		key = append(key, binary.BigEndian.Uint32(b[i:]))
	}
	return newTwisterFromKey(key)
}

// newTwisterFromKey seeds by init_by_array; key is not empty.
func newTwisterFromKey(key []uint32) *Twister {
	t := NewTwister(19650218)
	s := &t.state
	i, j := 1, 0
	for range max(624, len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		if i++; i == 624 {
			s[0], i = s[623], 1
		}
		if j++; j == len(key) {
			j = 0
		}
	}
	for range 623 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		if i++; i == 624 {
			s[0], i = s[623], 1
		}
	}
	s[0] = 1 << 31
	return t
}

// Uint32 is the next 32 bits.
func (t *Twister) Uint32() uint32 {
	if t.next == 624 {
		t.twist()
	}
	y := t.state[t.next]
	t.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (t *Twister) twist() {
	s := &t.state
	for i := range s {
		y := s[i]&(1<<31) | s[(i+1)%624]&(1<<31-1)
		v := s[(i+397)%624] ^ y>>1
		if y&1 == 1 {
			v ^= 0x9908b0df
		}
		s[i] = v
	}
	t.next = 0
}

// Below is a uniform number in [0, n), n > 0, by Lemire's method without
// division (https://arxiv.org/abs/1805.10941), as liblinear draws it.
func (t *Twister) Below(n uint32) uint32 {
	hi, lo := bits.Mul32(t.Uint32(), n)
	if lo < n {
		for threshold := -n % n; lo < threshold; {
			hi, lo = bits.Mul32(t.Uint32(), n)
		}
	}
	return hi
}

// Switched tells whether the outputs are shown in the opposite order, the
// model's first. It depends on the instruction alone, so it is the same for
// every model and judge: alpaca_eval's random.Random("is_switched_outputs" +
// instruction + "0").choices([False, True]).
func Switched(instruction string) bool {
	return NewTwisterFromText("is_switched_outputs"+instruction+"0").Uint32()>>31 == 1
}

package local

import "strings"

// A stopper looks for stop strings in text that comes in pieces, and holds back
// what may be the beginning of one.
type stopper struct {
	stops []string
	held  string
}

// add takes a piece and gives the text that is certain. found says that a stop
// string followed it; what comes after is dropped.
func (s *stopper) add(piece string) (text string, found bool) {
	all := s.held + piece
	at := -1
	for _, stop := range s.stops {
		if i := strings.Index(all, stop); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		s.held = ""
		return all[:at], true
	}
	hold := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(all)); n > hold; n-- {
			if strings.HasSuffix(all, stop[:n]) {
				hold = n
			}
		}
	}
	// A stop string may begin in the middle of a character's bytes only if it
	// is itself broken; held text is cut where the match is.
	s.held = all[len(all)-hold:]
	return all[:len(all)-hold], false
}

// rest gives what is held back once nothing more comes.
func (s *stopper) rest() string {
	text := s.held
	s.held = ""
	return text
}

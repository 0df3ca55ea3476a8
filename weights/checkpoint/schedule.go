package checkpoint

import "sync"

// A schedule hands out the units of a plan: those of one file in order, those
// of several files in turn, so that the digests of the files, each a sequential
// computation, can run side by side, and so that two workers seldom write to one
// file, where the second would wait for the first.
type schedule struct {
	mu    sync.Mutex
	width int           // files that are worked on at a time
	files []plannedFile // not begun
	open  []*lane       // with units to hand out, the one longest ago first
	lanes map[int]*lane
}

// A lane is a file with units that have been handed out.
type lane struct {
	units   []unit // to be handed out
	workers int    // with a unit of it
}

// schedule leaves out the files in skip.
func (p *plan) schedule(width int, skip map[int]bool) *schedule {
	s := &schedule{width: width, lanes: make(map[int]*lane)}
	for i, f := range p.files {
		if !skip[i] && len(f.units) > 0 {
			s.files = append(s.files, f)
		}
	}
	return s
}

// take gives the next unit of the file with the fewest workers, or nil at the
// end.
func (s *schedule) take() *unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) < s.width && len(s.files) > 0 {
		l := &lane{units: s.files[0].units}
		s.lanes[l.units[0].file] = l
		s.open, s.files = append(s.open, l), s.files[1:]
	}
	if len(s.open) == 0 {
		return nil
	}
	at := 0
	for i, l := range s.open {
		if l.workers < s.open[at].workers {
			at = i
		}
	}
	l := s.open[at]
	u := &l.units[0]
	l.units = l.units[1:]
	l.workers++
	s.open = append(s.open[:at], s.open[at+1:]...)
	if len(l.units) > 0 {
		s.open = append(s.open, l)
	}
	return u
}

// done says that a unit is written.
func (s *schedule) done(u *unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[u.file].workers--
}

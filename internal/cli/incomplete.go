package cli

import "fmt"

// exitIncomplete is the status of a command that finished although some of
// its samples have no result.
const exitIncomplete = 4

// incomplete is the error of such a command, returned after its result has
// been printed.
type incomplete struct {
	missing, total int
	what           string // what the missing ones lack, as "have no judgment"
	remedy         string
}

func (e *incomplete) Error() string {
	return fmt.Sprintf("finished, but %d of %d %s; %s", e.missing, e.total, e.what, e.remedy)
}

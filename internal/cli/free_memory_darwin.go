package cli

import "golang.org/x/sys/unix"

// freeMemory is half of the machine's memory: what is free the system does not
// tell in a word. 0 if even that is unknown.
func freeMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(n / 2)
}

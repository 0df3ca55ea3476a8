package cli

import (
	"os"
	"strconv"
	"strings"
)

// freeMemory is how many bytes this process could still take without making
// others swap, as the kernel estimates it, and as the control group it runs in
// allows; 0 if that cannot be told.
func freeMemory() int64 {
	free := numberIn("/proc/meminfo", "MemAvailable:") << 10
	const group = "/sys/fs/cgroup/memory."
	if limit := numberIn(group+"max", ""); limit > 0 && free > 0 {
		// What is cached of files is given up when it is needed.
		used := numberIn(group+"current", "") - numberIn(group+"stat", "inactive_file") - numberIn(group+"stat", "active_file")
		free = max(min(free, limit-used), 1)
	}
	return free
}

// numberIn reads the number after a word at the beginning of a line of a file,
// or with no word the one that the file is; 0 if there is none.
func numberIn(path, word string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if word != "" && len(f) > 0 && f[0] == word {
			f = f[1:]
		} else if word != "" {
			continue
		}
		if len(f) > 0 {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			return n
		}
	}
	return 0
}

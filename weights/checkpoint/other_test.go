//go:build !unix

package checkpoint

import "testing"

func mkfifo(t *testing.T, _ string) { t.Skip("no named pipes") }

func umask(t *testing.T, _ int) { t.Skip("no umask") }

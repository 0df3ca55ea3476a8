//go:build !purego

package kernel

import "syscall"

// amxPermitted asks the kernel for permission to use the registers of AMX, which
// Linux wants to be asked for since they make its signal frames and its records
// of threads larger (https://docs.kernel.org/arch/x86/xstate.html). Kernels that
// know nothing of it, and sandboxes, answer with an error.
func amxPermitted() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, e := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return e == 0
}

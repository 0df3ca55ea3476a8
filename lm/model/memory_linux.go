package model

import "syscall"

// hugePages asks for large pages: weights are read from end to end for every
// token, and address translation shows. Refusal costs nothing but that.
func hugePages(b []byte) { syscall.Madvise(b, syscall.MADV_HUGEPAGE) }

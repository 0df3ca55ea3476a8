package model

import "golang.org/x/sys/unix"

// hugePages asks for large pages: weights are read from end to end for every
// token, and address translation shows. Refusal costs nothing but that.
func hugePages(b []byte) { unix.Madvise(b, unix.MADV_HUGEPAGE) }

// populate brings whole pages of a mapped file into memory and the page tables,
// so that a slow disk is waited for while loading and the first token is as fast
// as the others. Systems older than Linux 5.14 refuse, and fault the pages in one
// by one later.
func populate(pages []byte) { unix.Madvise(pages, unix.MADV_POPULATE_READ) }

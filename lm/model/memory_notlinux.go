//go:build unix && !linux

package model

func hugePages([]byte) {}

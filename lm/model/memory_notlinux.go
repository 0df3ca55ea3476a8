//go:build !linux

package model

func hugePages([]byte) {}

func populate([]byte) {}
